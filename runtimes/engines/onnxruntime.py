"""ONNX Runtime over one exported graph with past and present.

Shapes: B rows, T new tokens, P slots held, S = P + T slots seen, K wanted positions, V vocabulary.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from runtimes import artifacts
from runtimes.base import Hardware, ModelSource, Outputs, Phase, Runtime, Traits, Unsupported, Weights
from runtimes.engines.eager import last_positions
from runtimes.engines.slots import check_rewind
from runtimes.weights import full

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class PastCache:
    """Keys and values as ONNX Runtime's own buffers: a step hands them on without a copy.

    All rows share the slots; `used_BP` says which of them a row really holds.
    """

    def __init__(self, held: list[Any], used_BP: np.ndarray, lengths: list[int]):
        self.held, self.used_BP, self.row_lengths = held, used_BP, lengths

    @property
    def lengths(self) -> list[int]:
        return list(self.row_lengths)

    def select(self, rows: Sequence[int]) -> PastCache:
        index = np.asarray(rows, dtype=np.int64)
        used_BP = self.used_BP[index]
        kept = np.flatnonzero(used_BP.any(axis=0))  # slots that none of the rows uses are left behind
        held = [_value(np.ascontiguousarray(value.numpy()[index][:, :, kept])) for value in self.held]
        return PastCache(held, used_BP[:, kept], [self.row_lengths[row] for row in rows])

    def rewind(self, lengths: Sequence[int]) -> None:
        check_rewind(self.row_lengths, lengths)
        # A row's used slots are in the order of its tokens, so its first n are its first n tokens.
        self.used_BP &= self.used_BP.cumsum(axis=1) <= np.asarray(lengths)[:, None]
        self.row_lengths = list(lengths)

    def replace(self, rows: Sequence[int], source: PastCache) -> None:
        index = list(rows)
        for row, length in zip(index, source.row_lengths, strict=True):
            self.row_lengths[row] = length
        self.used_BP[index] = False
        slots = max(self.row_lengths)
        # Each row's tokens move to the front: otherwise the slots would grow with every token of every row.
        held = [_front(value.numpy(), self.used_BP, slots) for value in self.held]
        for mine, theirs in zip(held, source.held, strict=True):
            moved = _front(theirs.numpy(), source.used_BP, slots)
            mine[index] = moved
        self.held = [_value(array) for array in held]
        self.used_BP = np.arange(slots) < np.asarray(self.row_lengths)[:, None]


def _front(held_BHPD: np.ndarray, used_BP: np.ndarray, slots: int) -> np.ndarray:
    """Return (B, H, slots, D): the used slots of each row at the front, in their order."""
    rows, heads, _, width = held_BHPD.shape
    front = np.zeros((rows, heads, slots, width), dtype=held_BHPD.dtype)
    order_BP = np.argsort(~used_BP, axis=1, kind="stable")[:, :slots]
    moved = np.take_along_axis(held_BHPD, order_BP[:, None, :, None], axis=2)
    front[:, :, : moved.shape[2]] = moved
    return front


class OnnxRuntime(Runtime):
    """`provider` null takes the one that fits the device; another one that cannot run is an error, never a fallback."""

    weight_forms = frozenset({"dense", "onnx"})

    def __init__(self, dtype: str = "float32", provider: str | None = None, weights: Weights | None = None):
        self._dtype, self._provider = dtype, provider
        self._weights: Weights = weights or full.Full()
        self._session: Any = None

    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        _require("onnxruntime", "onnx")
        if self._dtype != "float32" and hw.device == "cpu":
            raise Unsupported(f"ONNX Runtime does not run {self._dtype} on a CPU: use runtime.dtype=float32")
        with phase("export"):
            folder = self._graph(model, hw)
        with phase("session"):
            self._session = _session(folder / "model.onnx", self._provider or _PROVIDERS[hw.device], hw.threads)
        inputs = {value.name: value for value in self._session.get_inputs()}
        outputs = [value.name for value in self._session.get_outputs()]
        self._held_names = [name for name in inputs if name.startswith(("key.", "value."))]
        self._names = ["logits", *(f"new_{name}" for name in self._held_names)]
        self._has_positions = "positions" in inputs
        _, self._heads, _, self._width = inputs[self._held_names[0]].shape
        self._max_length = _context(model)
        size = sum(path.stat().st_size for path in folder.glob("model.onnx*"))
        logits = self._session.get_outputs()[outputs.index("logits")]
        return Traits(
            vocabulary=int(logits.shape[-1]),
            max_length=self._max_length,
            dtype=self._dtype,
            weight_bytes=_initializer_bytes(folder / "model.onnx"),
            weight_disk_bytes=size,
        )

    def new_cache(self, rows: int, capacity: int) -> PastCache:
        empty = np.zeros((rows, self._heads, 0, self._width), dtype=np.float32)
        held = [_value(empty) for _ in self._held_names]
        return PastCache(held, np.zeros((rows, 0), dtype=bool), [0] * rows)

    def forward(
        self,
        ids_BT: torch.Tensor,
        lengths: Sequence[int],
        cache: PastCache | None = None,
        at_BK: torch.Tensor | None = None,
    ) -> Outputs:
        keep = cache is not None
        cache = cache if cache is not None else self.new_cache(len(lengths), 0)
        tokens = ids_BT.shape[1]
        positions_BT = np.asarray(cache.row_lengths, dtype=np.int64)[:, None] + np.arange(tokens)
        if self._max_length is not None:
            positions_BT = np.minimum(positions_BT, self._max_length - 1)  # padding may lie beyond the last position
        at_BK = at_BK if at_BK is not None else last_positions(lengths)
        feeds = {
            "ids": _value(ids_BT.numpy()),
            "mask": _value(_mask(cache.used_BP, tokens)),
            "at": _value(at_BK.contiguous().numpy()),
            **dict(zip(self._held_names, cache.held, strict=True)),
        }
        if self._has_positions:
            feeds["positions"] = _value(positions_BT)
        logits, *held = self._session.run_with_ort_values(self._names if keep else ["logits"], feeds)
        if keep:
            new_BT = np.arange(tokens) < np.asarray(lengths)[:, None]
            cache.held, cache.used_BP = held, np.concatenate([cache.used_BP, new_BT], axis=1)
            cache.row_lengths = [old + new for old, new in zip(cache.row_lengths, lengths, strict=True)]
        return Outputs(torch.from_numpy(logits.numpy()))

    def synchronize(self) -> None:
        """A session's run returns when it is done."""

    def close(self) -> None:
        self._session = None

    def _graph(self, model: ModelSource, hw: Hardware) -> Path:
        made_from = {
            "model": model.digest,
            "dtype": self._dtype,
            "weights": dict(self._weights.identity),
            "graph": 1,  # raised when `onnx_graph` changes what it writes
            **{name: importlib.metadata.version(name) for name in ("torch", "transformers", "onnxscript")},
        }
        if self._weights.form != "onnx":
            return artifacts.entry(hw.artifacts, "onnx", made_from, lambda folder: self._export(model, hw, folder))
        packer: Any = self._weights
        dense = artifacts.entry(
            hw.artifacts,
            "onnx",
            made_from | {"weights": {"name": "full"}},
            lambda folder: self._export(model, hw, folder),
        )
        made_from["onnxruntime"] = importlib.metadata.version("onnxruntime")
        return artifacts.entry(hw.artifacts, "onnx", made_from, lambda folder: packer.pack(dense, folder))

    def _export(self, model: ModelSource, hw: Hardware, folder: Path) -> None:
        _require("onnxscript")
        from runtimes.engines import onnx_graph  # brings in the exporter, which a cached graph never needs

        on_host = Hardware("cpu", hw.threads, hw.artifacts)
        onnx_graph.export(self._weights.load(model, self._dtype, "sdpa", on_host), folder)


def _session(graph: Path, provider: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # A spinning pool takes the core from whatever is measured beside it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if provider not in onnxruntime.get_available_providers():
        raise Unsupported(
            f"ONNX Runtime has no {provider}; it has {', '.join(onnxruntime.get_available_providers())}: "
            "install the extra onnx-gpu instead of onnx, or use hw=cpu"
        )
    session = onnxruntime.InferenceSession(graph, options, providers=[provider])
    if session.get_providers()[0] != provider:  # listed providers that cannot load are replaced in silence
        raise Unsupported(
            f"ONNX Runtime was asked for {provider} and runs {session.get_providers()[0]}: check its logs"
        )
    return session


def _mask(used_BP: np.ndarray, tokens: int) -> np.ndarray:
    """Return (B, 1, T, S). Padding sees itself, since a row of the softmax without any slot would be NaN."""
    rows = used_BP.shape[0]
    if tokens == 1:
        return np.concatenate([used_BP, np.ones((rows, 1), dtype=bool)], axis=1)[:, None, None, :]
    past = np.broadcast_to(used_BP[:, None, :], (rows, tokens, used_BP.shape[1]))
    new = np.broadcast_to(np.tri(tokens, dtype=bool), (rows, tokens, tokens))
    return np.concatenate([past, new], axis=2)[:, None]


def _value(array: np.ndarray) -> Any:
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


def _context(model: ModelSource) -> int | None:
    from transformers import AutoConfig

    if model.folder is None:
        return dict(model.architecture or {}).get("max_position_embeddings")
    return getattr(AutoConfig.from_pretrained(model.folder).get_text_config(), "max_position_embeddings", None)


def _initializer_bytes(graph: Path) -> int:
    import onnx

    sizes = {kind: np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).itemsize for kind in (1, 7, 9, 10, 11)}
    tensors = onnx.load(graph, load_external_data=False).graph.initializer
    return sum(int(np.prod(t.dims)) * sizes.get(t.data_type, 1) for t in tensors)


def _require(*modules: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise Unsupported(f"{missing[0]} is not installed: pip install 'runtime-matrix[onnx]' (or [onnx-gpu])")
