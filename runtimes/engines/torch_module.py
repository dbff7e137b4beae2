"""A loaded `transformers` module with the code that the engines eager and `compile` share.

Shapes: B rows, T new tokens per row, S visible slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from runtime_matrix.runtimes import heap
from runtime_matrix.runtimes.base import (
    Adapter,
    Hardware,
    HeldAdapter,
    LoadRequest,
    ModelSource,
    Phase,
    Placement,
    Traits,
    Unsupported,
    Weights,
)
from runtime_matrix.runtimes.dtype_speed import dtype_note
from runtime_matrix.runtimes.engines import attention, masks
from runtime_matrix.runtimes.engines.masks import Masks
from runtime_matrix.runtimes.engines.slots import SlotCache, Span
from runtime_matrix.runtimes.engines.torch_training import why_untrainable
from runtime_matrix.runtimes.engines.usable import gpu_dtypes, usable_attention, usable_dtype
from runtime_matrix.runtimes.footprint import ModelSizes, WeightFootprint
from runtime_matrix.runtimes.planned import OutlinedWeights, PlacementPlan, PlannedPlacement
from runtime_matrix.runtimes.weights import adapter, full, sharding
from runtime_matrix.runtimes.weights.packages import import_all
from runtime_matrix.runtimes.windows import Windows


@dataclass(eq=False)
class TorchModule:
    """A module in inference mode on `device`; `attention` is transformers' name of the implementation that it uses."""

    module: Any
    device: str
    attention: str
    max_position: int | None  # maximum number of tokens per row; None: the model states no limit
    traits: Traits
    adapter: Adapter | None = None  # held beside the weights
    layer_devices: Sequence[str] = ()  # of a module over several devices; empty: all layers are on `device`
    key_value_heads: int | None = None  # that this rank computes; None: all
    windows: Windows = field(default_factory=Windows)
    untrainable: str | None = None  # why the weights cannot have gradients; None: they can
    _firsts: dict[int, torch.Tensor] = field(default_factory=dict)  # key: number of rows

    def new_cache(self, rows: int, slots: int) -> SlotCache:
        """Return an empty cache with `slots` slots per row, in the module's dtype."""
        return SlotCache.empty(
            self.module.config,
            rows,
            slots,
            self.module.dtype,
            self.device,
            self.layer_devices,
            heads=self.key_value_heads,
        )

    def in_range(self, positions_BT: torch.Tensor) -> torch.Tensor:
        """Return the positions (B, T) clamped to the model's limit: padding may exceed a learned position table."""
        return positions_BT if self.max_position is None else positions_BT.clamp(max=self.max_position - 1)

    def mask(self, positions_BT: torch.Tensor, slots: int) -> Masks:
        """Return the mask (B, 1, T, S), or those of the layer types: see `masks.causal`.

        It is additive for the eager implementation, and boolean otherwise.
        """
        visible = masks.causal(torch.arange(slots, device=self.device), positions_BT, self.windows.within(slots))
        if self.attention != "eager":
            return visible
        return masks.mapped(visible, lambda mask: masks.additive(mask, self.module.dtype))

    def needs_mask(self, span: Span) -> bool:
        """Return whether a forward needs a mask of this project.

        Without a past, `transformers` limits each layer to its window.
        """
        return span.needs_mask or (span.start != 0 and self.windows.within(span.extent).size is not None)

    def first_B1(self, rows: int) -> torch.Tensor:
        """Return zeros (B, 1), the `at_BK` of a decode step; cached on the device to avoid a transfer at each step."""
        if rows not in self._firsts:
            self._firsts[rows] = torch.zeros(rows, 1, dtype=torch.long, device=self.device)
        return self._firsts[rows]

    def synchronize(self) -> None:
        """Return when the devices are idle."""
        if self.device == "cuda":
            for device in set(self.layer_devices) or {self.device}:
                torch.cuda.synchronize(device)

    def switch_adapter(self, model: ModelSource, phase: Phase) -> Traits:
        """Replace the adapter beside the weights by the model's, as `Runtime.switch_adapter` does."""
        if self.adapter is None or model.adapter is None or model.adapter.is_merged:
            raise Unsupported("an adapter can be switched only beside the weights")
        with phase("adapter"):
            adapter.remove(self.module)
            self.adapter = None
            adapter.attach(self.module, model.adapter, self.module.dtype)
        self.adapter = model.adapter
        self.traits = replace(self.traits, weight_bytes=full.weight_bytes(self.module))
        return self.traits

    def held_adapter(self) -> HeldAdapter | None:
        """Return the adapter beside the weights; None without one."""
        return None if self.adapter is None else adapter.Held(self.module, self.adapter)


@dataclass(frozen=True)
class TorchLoader:
    """Loads a module; `dtype` and `attention` are the configured ones, which the device may not support."""

    dtype: str
    attention: str
    weights: Weights
    placement: Placement | None = None  # None: all weights lie on the device that computes

    def check(self, hw: Hardware) -> None:
        """Raise Unsupported if a requirement of the weights or the placement is missing."""
        self.weights.check(hw)
        if self.placement is not None:
            self.placement.check(hw)
        if isinstance(self.placement, PlannedPlacement) and not _can_be_planned(self.weights):
            raise Unsupported(
                f"{type(self.weights).__name__} weights are prepared for one device when they are loaded, so this "
                "placement cannot divide them: use runtime/weights=full, nf4 or bnb_int8"
            )

    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> TorchModule:
        """Load in the phases import, weights and place. Raises Unsupported as `Runtime.load` does."""
        torch.set_num_threads(hw.threads)
        dtype, notes = usable_dtype(self.dtype, hw.device, gpu_dtypes(self.weights, model))
        name, more = usable_attention(self.attention, dtype, hw.device)
        with phase("import"):
            import_all(full.modules_of(model))
            import_all((*self.weights.packages, *(self.placement.packages if self.placement else ())))
            if model.adapter is not None:
                adapter.import_packages()
        ranks = _ranks(self.placement, hw)
        # With a placement, the module may exceed the device's memory, so it is loaded on the host. A rank's part fits.
        where = hw if self.placement is None or ranks > 1 else replace(hw, device="cpu")
        with phase("weights"):
            beside = model.adapter if model.adapter is not None and not model.adapter.is_merged else None
            source = model if beside is None else model.base
            plan = self._plan(source, dtype, hw)
            dense_parts = None if plan is None else plan.dense_parts
            request = LoadRequest(source, dtype, name, where, calibration_ids, dense_parts, ranks=ranks)
            module = self.weights.load(request)
        if beside is not None:
            with phase("adapter"):
                adapter.attach(module, beside, getattr(torch, dtype))
        if self.placement is not None:
            with phase("place"):
                module = (plan or self.placement).place(module, hw)
        if self.weights.form == "packed":
            heap.return_freed()  # the dense matrices, of which small ones would stay: up to half of the weights
        attention.use_kernel(module, name)
        config = module.config.get_text_config()
        weight_bytes = full.weight_bytes(module)
        traits = Traits(
            vocabulary=config.vocab_size,
            max_length=getattr(config, "max_position_embeddings", None),
            dtype=dtype,
            weight_bytes=weight_bytes,
            weight_disk_bytes=full.disk_bytes(model.folder),
            batch_tokens=2048 if hw.device == "cpu" else 16384,
            dtype_note=dtype_note(dtype, hw.device),
            notes=notes + more + full.notes(model, dtype) + tuple(plan.notes if plan is not None else ()),
            ranks=(sharding.rank_of(module, hw.device, weight_bytes),) if ranks > 1 else (),
        )
        layer_devices = plan.layer_devices if plan is not None else ()
        heads = sharding.key_value_heads(module, ranks)
        loaded = TorchModule(
            module, hw.device, name, traits.max_length, traits, beside, layer_devices, heads, Windows.of(module)
        )
        if ranks == 1:  # a rank knows its own heads alone
            cache = loaded.new_cache(1, 1)
            loaded.traits = replace(traits, kv_dtype=dtype, kv_bytes_per_token=cache.slot_bytes)
        loaded.untrainable = why_untrainable(model, self.weights, self.placement)
        return loaded

    def footprint(self, sizes: ModelSizes) -> WeightFootprint | None:
        """Return what the weights take in their placement; None if either does not declare it."""
        declared = getattr(self.weights, "footprint", None)
        weights: WeightFootprint | None = None if declared is None else declared(sizes, self.dtype)
        if weights is None or self.placement is None:
            return weights
        placed = getattr(self.placement, "footprint", None)
        left: WeightFootprint | None = None if placed is None else placed(weights, sizes, self.dtype)
        return left

    def _plan(self, model: ModelSource, dtype: str, hw: Hardware) -> PlacementPlan | None:
        """Return the plan of a placement that has one. Raises Unsupported if the model cannot be placed so."""
        if not isinstance(self.placement, PlannedPlacement):
            return None
        if model.stored_method is not None:
            raise Unsupported(
                f"the stored weights are {model.stored_method}, prepared for one device when they are loaded, so this "
                "placement cannot divide them: use runtime/placement=device"
            )
        pack = self.weights.outline if isinstance(self.weights, OutlinedWeights) else None
        return self.placement.plan(full.outline(model, dtype), hw, pack)


def _can_be_planned(weights: Weights) -> bool:
    """Return whether a placement plan can move these weights: dense ones, or packed ones with an outline."""
    return weights.form == "dense" or isinstance(weights, OutlinedWeights)


def _ranks(placement: Placement | None, hw: Hardware) -> int:
    """Return over how many processes a placement distributes the weights."""
    count = getattr(placement, "ranks", None)
    return 1 if count is None else int(count(hw))
