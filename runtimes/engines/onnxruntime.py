"""ONNX Runtime over one exported graph with past and present; on a GPU all of it is bound to torch's own memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import Hardware, ModelSource, Phase, Traits, Unsupported, Weights
from runtime_matrix.runtimes.engines import onnx_graph
from runtime_matrix.runtimes.engines.past import PastCache, PastShape
from runtime_matrix.runtimes.engines.past_graph import PastGraph, Tensors, address, context_length
from runtime_matrix.runtimes.weights import full
from runtime_matrix.runtimes.weights.packages import import_all, require

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(bfloat16)": "bfloat16"}
_ELEMENTS = {torch.float32: 1, torch.int64: 7, torch.bool: 9, torch.float16: 10, torch.bfloat16: 16}  # ONNX's numbers


class OnnxRuntime(PastGraph):
    """`provider` null takes the one that fits the device; another one that cannot run is an error, never a fallback."""

    weight_forms = frozenset({"dense", "onnx"})

    def __init__(self, dtype: str = "float32", provider: str | None = None, weights: Weights | None = None):
        self._dtype, self._provider = dtype, provider
        self._weights: Weights = weights or full.Full()
        self._session: Any = None

    @override
    def check(self, hw: Hardware) -> None:
        extra = "onnx" if hw.device == "cpu" else "onnx-gpu"
        require("onnxruntime", extra)
        onnx_graph.check(extra)
        self._weights.check(hw)
        if self._dtype != "float32" and hw.device == "cpu":
            raise Unsupported(f"ONNX Runtime does not run {self._dtype} on a CPU: use runtime.dtype=float32")
        _check_provider(self._provider or _PROVIDERS[hw.device])

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        self.check(hw)
        torch.set_num_threads(hw.threads)
        with phase("import"):
            import_all(("onnx", "onnxruntime"))
        with phase("export"):
            folder = onnx_graph.exported(model, self._weights, self._dtype, hw, phase)
        with phase("session"):
            self._session = _session(folder / onnx_graph.GRAPH, self._provider or _PROVIDERS[hw.device], hw.threads)
        inputs = {value.name: value for value in self._session.get_inputs()}
        self._held_names = [name for name in inputs if name.startswith(("key.", "value."))]
        self._has_positions = "positions" in inputs
        _, heads, _, width = inputs[self._held_names[0]].shape
        self._shape = PastShape(len(self._held_names), heads, width, getattr(torch, self._dtype), hw.device)
        self._names = ["logits", *(f"new_{name}" for name in self._held_names)]
        self._max_length = context_length(model)
        logits = next(value for value in self._session.get_outputs() if value.name == "logits")
        self._vocabulary, self._logits_dtype = int(logits.shape[-1]), getattr(torch, _DTYPES[logits.type])
        return Traits(
            vocabulary=self._vocabulary,
            max_length=self._max_length,
            dtype=self._dtype,
            weight_bytes=onnx_graph.weight_bytes(folder),
            weight_disk_bytes=sum(path.stat().st_size for path in folder.glob(f"{onnx_graph.GRAPH}*")),
            shares_prefix=hw.device == "cpu",  # on a GPU nobody has tried which batches pay
            packs_rows=hw.device == "cpu",
            batch_tokens=256 if hw.device == "cpu" else 4096,
        )

    @override
    def close(self) -> None:
        self._session = None

    @override
    def _execute(
        self, inputs: Tensors, cache: PastCache, size: tuple[int, int, int], keep: bool
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        if self._shape.device == "cpu":  # arrays lie where tensors do, and binding each costs more than running gains
            wanted = self._names if keep else self._names[:1]
            made = self._session.run(wanted, {name: value.numpy() for name, value in inputs.items()})
            logits_BKV, *present = map(torch.from_numpy, made)
            return logits_BKV, present
        tokens = inputs["ids"].shape[1]
        logits_BKV, present = (
            torch.empty(size, dtype=self._logits_dtype, device=self._shape.device),
            cache.present(tokens),
        )
        outputs = dict(zip(self._names, [logits_BKV, *present], strict=True))
        binding = self._session.io_binding()
        card = logits_BKV.device.index
        for name, value in inputs.items():
            binding.bind_input(name, "cuda", card, _ELEMENTS[value.dtype], value.shape, address(value))
        for name, value in outputs.items():
            binding.bind_output(name, "cuda", card, _ELEMENTS[value.dtype], value.shape, address(value))
        self.synchronize()  # the session has a stream of its own: its inputs must be there; it returns when it is done
        self._session.run_with_iobinding(binding)
        return logits_BKV, present


def _check_provider(provider: str) -> None:
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise Unsupported(
            f"ONNX Runtime has no {provider}; it has {', '.join(available)}: "
            "install the extra onnx-gpu instead of onnx, or use hw=cpu"
        )


def _provider_options(provider: str) -> dict[str, str]:
    """Return what a provider is told: on CUDA, no TF32 under the name float32, torch's device, no spare memory."""
    if provider != _PROVIDERS["cuda"]:
        return {}
    return {
        "use_tf32": "0",
        "device_id": str(torch.cuda.current_device() if torch.cuda.is_available() else 0),
        "arena_extend_strategy": "kSameAsRequested",  # by default each extension doubles what is held
    }


def _session(graph: Path, provider: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # A spinning pool takes the core from whatever is measured beside it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=[(provider, _provider_options(provider))])
    if session.get_providers()[0] != provider:  # listed providers that cannot load are replaced in silence
        raise Unsupported(
            f"ONNX Runtime was asked for {provider} and runs {session.get_providers()[0]}: check its logs"
        )
    return session
