"""Eager PyTorch over a `transformers` model: the reference when it computes in float32.

Shapes: B rows, T new tokens, K wanted positions, S visible slots, V vocabulary, E hidden width.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import (
    Hardware,
    LoadRequest,
    ModelSource,
    Outputs,
    Phase,
    Placement,
    Runtime,
    Traits,
    Unsupported,
    Weights,
)
from runtime_matrix.runtimes.dtype_speed import dtype_note
from runtime_matrix.runtimes.engines import grouped_attention, shared_prefix
from runtime_matrix.runtimes.engines.last_layer import LastLayer
from runtime_matrix.runtimes.engines.shared_prefix import Branch
from runtime_matrix.runtimes.engines.slots import NoCache, SlotCache
from runtime_matrix.runtimes.transfer import to_device
from runtime_matrix.runtimes.weights import full
from runtime_matrix.runtimes.weights.packages import import_all

_FLASH_CAPABILITY = (8, 0)  # of a CUDA device: flash-attn 2 has kernels for Ampere and later


class Eager(Runtime):
    """`attention` is sdpa, eager or flash_attention_2.

    An attention or dtype that the device does not support falls back to one that it does, and a note says so. A dtype
    that a CPU emulates is used as asked.
    """

    weight_forms = frozenset({"dense", "packed"})
    places_modules = True
    skips_unwanted = True  # whether the last layer is run for the wanted tokens only

    def __init__(
        self,
        dtype: str = "float32",
        attention: str = "sdpa",
        weights: Weights | None = None,
        placement: Placement | None = None,
    ):
        self._wanted_dtype, self._wanted_attention, self._attention = dtype, attention, attention
        self._weights: Weights = weights or full.Full()
        self._placement = placement
        self._module: Any = None
        self._device = "cpu"
        self._at_BK: torch.Tensor | None = None
        self._first_B1: torch.Tensor | None = None  # zeros, kept on the device: what a step wants of each row
        self._branch: Branch | None = None
        self._last: LastLayer | None = None

    @override
    def check(self, hw: Hardware) -> None:
        self._weights.check(hw)
        if self._placement is not None:
            self._placement.check(hw)

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        self.check(hw)
        torch.set_num_threads(hw.threads)
        dtype, notes = _usable_dtype(self._wanted_dtype, hw.device, self._gpu_dtypes(model))
        self._attention, more = _usable_attention(self._wanted_attention, dtype, hw.device)
        notes += more
        with phase("import"):
            import_all(full.modules_of(model))
            import_all((*self._weights.packages, *(self._placement.packages if self._placement else ())))
        # What is placed afterwards may be larger than the device: it is loaded on the host.
        where = hw if self._placement is None else replace(hw, device="cpu")
        with phase("weights"):
            self._module = self._weights.load(LoadRequest(model, dtype, self._attention, where, calibration_ids))
        if self._placement is not None:
            with phase("place"):
                self._module = self._placement.place(self._module, hw)
        self._device, config = hw.device, self._module.config.get_text_config()
        self._kernel = self._attention
        if grouped_attention.can_group(self._module, self._attention):
            self._kernel = config._attn_implementation = grouped_attention.KERNEL
        # The head is applied to the asked positions only; a hook keeps whatever the model does behind its head.
        self._module.get_output_embeddings().register_forward_pre_hook(self._gather)
        self._last = LastLayer(self._module) if self.skips_unwanted else None
        self._max_position = getattr(config, "max_position_embeddings", None)
        shares = shared_prefix.can_share(self._module, self._attention, hw.device)
        return Traits(
            vocabulary=config.vocab_size,
            max_length=self._max_position,
            dtype=dtype,
            weight_bytes=full.weight_bytes(self._module),
            weight_disk_bytes=full.disk_bytes(model.folder),
            shares_prefix=shares,
            packs_rows=shares,
            batch_tokens=2048 if hw.device == "cpu" else 16384,
            dtype_note=dtype_note(dtype, hw.device),
            notes=notes,
        )

    def _gpu_dtypes(self, model: ModelSource) -> Sequence[str]:
        """Return the dtypes that the weights' kernels on a GPU take; empty: any."""
        restricted = getattr(self._weights, "gpu_dtypes", None)
        return restricted(model) if restricted is not None else ()

    @override
    def new_cache(self, rows: int, capacity: int) -> SlotCache:
        return SlotCache.empty(self._module.config, rows, capacity, self._module.dtype, self._device)

    @override
    def branch(self, cache: SlotCache, rows: int, capacity: int) -> Branch:
        return Branch(cache, self.new_cache(rows, capacity))

    @torch.inference_mode()
    @override
    def forward(
        self,
        ids_BT: torch.Tensor,
        lengths: Sequence[int],
        cache: SlotCache | Branch | None = None,
        at_BK: torch.Tensor | None = None,
    ) -> Outputs:
        self._branch = cache if isinstance(cache, Branch) else None
        if isinstance(cache, Branch):
            is_new = not any(cache.own.row_lengths)
            cache.packed = shared_prefix.Packed(lengths, self._device) if is_new else None
            cache.last = self._last
            cache = cache.own
        past, tokens = cache.row_lengths if cache is not None else [0] * len(lengths), ids_BT.shape[1]
        start = past[0] if len(set(past)) == 1 else None
        extent = max(past) + tokens
        if cache is not None:
            positions_BT = cache.next_positions(tokens)
            cache.begin(positions_BT, start, extent)
        else:
            positions_BT = torch.arange(tokens, device=self._device).repeat(len(lengths), 1)
        # None lets the model take its fastest kernel: one token that sees all slots, or a plain causal square.
        needs_mask = start is None or (tokens > 1 and start > 0)
        mask_BTS = self._mask(positions_BT, extent) if needs_mask else None
        self._want(at_BK, lengths, tokens)
        logits_BKV = self._run(to_device(ids_BT, self._device), positions_BT, mask_BTS, cache)
        if cache is not None:
            cache.advance(lengths)
        return Outputs(logits_BKV.float())

    @override
    def synchronize(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()

    @override
    def close(self) -> None:
        self._module = None
        if self._device == "cuda":
            torch.cuda.empty_cache()

    def _run(
        self,
        ids_BT: torch.Tensor,
        positions_BT: torch.Tensor,
        mask_BTS: torch.Tensor | None,
        cache: SlotCache | None,
    ) -> torch.Tensor:
        held: Any = cache if cache is not None else NoCache()
        if self._branch is not None:
            return self._run_branch(self._branch, ids_BT, positions_BT, mask_BTS, held)
        if self._attention == "flash_attention_2":  # it knows no mask, which rows of different lengths need
            self._module.config._attn_implementation = "flash_attention_2" if mask_BTS is None else "sdpa"
        logits: torch.Tensor = self._module(
            input_ids=ids_BT,
            position_ids=self._in_range(positions_BT),
            attention_mask=mask_BTS,
            past_key_values=held,
            use_cache=True,
        ).logits
        return logits

    def _run_branch(
        self,
        branch: Branch,
        ids_BT: torch.Tensor,
        positions_BT: torch.Tensor,
        mask_BTS: torch.Tensor | None,
        held: Any,
    ) -> torch.Tensor:
        positions_BT = self._in_range(positions_BT + branch.shared_tokens)
        given = {"attention_mask": mask_BTS, "past_key_values": held, "use_cache": True}
        packed = branch.packed
        if packed is not None:
            at = (packed.row_N, packed.token_N)
            ids_BT, positions_BT = ids_BT[at][None], positions_BT[at][None]
            # A mask of its own keeps the model from making one; the packed attention needs none.
            given = {
                "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self._device),
                "use_cache": False,
            }
        config, branch.attended = self._module.config.get_text_config(), 0
        config._attn_implementation = shared_prefix.NAME
        try:
            outputs = self._module(input_ids=ids_BT, position_ids=positions_BT, branch=branch, **given)
        finally:
            config._attn_implementation = self._kernel
        if branch.attended != config.num_hidden_layers:
            raise RuntimeError("this model's attention cannot share a prefix: set scoring.share_prefix=false")
        logits: torch.Tensor = outputs.logits
        return logits

    def _in_range(self, positions_BT: torch.Tensor) -> torch.Tensor:
        # Padding may lie beyond the last position that a learned position table has.
        return positions_BT if self._max_position is None else positions_BT.clamp(max=self._max_position - 1)

    def _mask(self, positions_BT: torch.Tensor, slots: int) -> torch.Tensor:
        """Return (B, 1, T, S): a token sees the slots up to its own position."""
        seen = torch.arange(slots, device=self._device) <= positions_BT[:, None, :, None]
        if self._attention != "eager":
            return seen
        lowest = torch.finfo(self._module.dtype).min  # the eager kernel adds its mask
        return torch.zeros(seen.shape, dtype=self._module.dtype, device=self._device).masked_fill(~seen, lowest)

    def _want(self, at_BK: torch.Tensor | None, lengths: Sequence[int], tokens: int) -> None:
        """Say whose outputs the next forward is asked for; for a step nothing is sent to the device."""
        is_step = tokens == 1 and (at_BK is None or at_BK.shape[1] == 1)
        if is_step and (self._branch is None or self._branch.packed is None):
            if self._first_B1 is None or len(self._first_B1) != len(lengths):
                self._first_B1 = torch.zeros(len(lengths), 1, dtype=torch.long, device=self._device)
            self._at_BK = self._first_B1
            if self._last is not None:
                self._last.want(None, 0)
            return
        at_BK = at_BK if at_BK is not None else last_positions(lengths)
        if self._last is not None:
            self._last.want(*self._wanted(at_BK, tokens))
        self._at_BK = to_device(at_BK, self._device)

    def _wanted(self, at_BK: torch.Tensor, tokens: int) -> tuple[torch.Tensor | None, int]:
        """Return the places of the wanted tokens among all that the layers see, and how many those are."""
        packed = self._branch.packed if self._branch is not None else None
        rows = len(at_BK)
        starts = packed.starts if packed is not None else range(0, rows * tokens, tokens)
        wanted = (torch.tensor(starts)[:, None] + at_BK).flatten().unique()
        return to_device(wanted, self._device), sum(packed.lengths) if packed is not None else rows * tokens

    def _gather(self, head: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        (hidden_BTE,) = inputs
        assert self._at_BK is not None
        packed = self._branch.packed if self._branch is not None else None
        if packed is None and hidden_BTE.shape[1] == 1 and self._at_BK.shape[1] == 1:
            return (hidden_BTE,)
        at_BK = self._at_BK.to(hidden_BTE.device)
        if packed is not None:
            starts_B1 = torch.tensor(packed.starts, device=hidden_BTE.device)[:, None]
            return (hidden_BTE[0][starts_B1 + at_BK],)
        return (hidden_BTE.gather(1, at_BK[:, :, None].expand(-1, -1, hidden_BTE.shape[-1])),)


def last_positions(lengths: Sequence[int]) -> torch.Tensor:
    """Return (B, 1): the index of each row's last real token."""
    return torch.tensor(lengths)[:, None] - 1


def _usable_attention(wanted: str, dtype: str, device: str) -> tuple[str, tuple[str, ...]]:
    if wanted not in ("sdpa", "eager", "flash_attention_2"):
        raise Unsupported(f"runtime.engine.attention={wanted} is unknown: use sdpa, eager or flash_attention_2")
    if wanted != "flash_attention_2":
        return wanted, ()
    lacks = [
        *(["a CUDA device"] if device != "cuda" else []),
        *([_needs_capability()] if device == "cuda" and torch.cuda.get_device_capability() < _FLASH_CAPABILITY else []),
        *(["the package flash-attn"] if importlib.util.find_spec("flash_attn") is None else []),
        *(["float16 or bfloat16"] if dtype == "float32" else []),
    ]
    if lacks:
        return "sdpa", (f"flash_attention_2 needs {', '.join(lacks)}: sdpa was used",)
    return wanted, ("rows of different lengths used sdpa, since flash_attention_2 takes no mask",)


def _needs_capability() -> str:
    found, needed = (".".join(map(str, one)) for one in (torch.cuda.get_device_capability(), _FLASH_CAPABILITY))
    return f"compute capability {needed} (found {found})"


def _usable_dtype(wanted: str, device: str, kernels: Sequence[str] = ()) -> tuple[str, tuple[str, ...]]:
    if device == "cuda" and kernels and wanted not in kernels:
        return kernels[0], (f"these weights have no kernels for {wanted} on a GPU: {kernels[0]} was used",)
    if wanted == "bfloat16" and device == "cuda" and not torch.cuda.is_bf16_supported():
        return "float16", ("bfloat16 is not supported by this device: float16 was used",)
    return wanted, ()
