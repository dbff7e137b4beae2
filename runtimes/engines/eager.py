"""Eager PyTorch over a `transformers` model; in float32 it is the reference.

Shapes: B rows, T new tokens per row, K requested positions, M requested tokens of all rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import (
    EXTERNAL_CONTEXT,
    LOGITS,
    PARAMETRIC_KNOWLEDGE,
    Hardware,
    HeldAdapter,
    ModelSource,
    Outputs,
    Phase,
    Placement,
    Runtime,
    Traits,
    Unsupported,
    Weights,
    check_contexts,
    check_outputs,
)
from runtime_matrix.runtimes.engines import (
    attention,
    head,
    last_layer,
    observation,
    shared_prefix,
    torch_profile,
    torch_training,
)
from runtime_matrix.runtimes.engines.grouped_attention import register
from runtime_matrix.runtimes.engines.observation import Observation
from runtime_matrix.runtimes.engines.plan import CURRENT, ForwardPlan
from runtime_matrix.runtimes.engines.positions import is_step, last_positions
from runtime_matrix.runtimes.engines.shared_prefix import Branch, BranchCall, Packed
from runtime_matrix.runtimes.engines.slots import NoCache, SlotCache, Span
from runtime_matrix.runtimes.engines.torch_module import TorchLoader, TorchModule
from runtime_matrix.runtimes.engines.usable import FLASH
from runtime_matrix.runtimes.footprint import Footprint, Load, ModelSizes
from runtime_matrix.runtimes.operations import Operation
from runtime_matrix.runtimes.training import Training
from runtime_matrix.runtimes.transfer import to_device
from runtime_matrix.runtimes.weights import full

_OWN_BYTES = 35 * 2**20  # pages of libraries that the first forward reads, and buffers of oneDNN


class Eager(Runtime):
    """A `transformers` model in eager mode; `attention` is sdpa, eager or flash_attention_2.

    An attention or dtype that the device does not support is replaced by a supported one, which a note records. A
    dtype that a CPU only emulates is not replaced.
    """

    weight_forms = frozenset({"dense", "packed"})
    layer_types = ("full_attention", "sliding_attention")
    adapter_modes = frozenset({"beside", "merged"})
    places_modules = True

    def __init__(
        self,
        dtype: str = "float32",
        attention: str = "sdpa",
        weights: Weights | None = None,
        placement: Placement | None = None,
    ):
        self._loader = TorchLoader(dtype, attention, weights or full.Full(), placement)
        self._loaded: TorchModule | None = None

    @override
    def check(self, hw: Hardware) -> None:
        self._loader.check(hw)

    @override
    def footprint(self, model: ModelSource, sizes: ModelSizes, load: Load, hw: Hardware) -> Footprint | None:
        weights, dtype = self._loader.footprint(sizes), self._loader.dtype
        if weights is None:
            return None
        activations = weights.activations_ratio * sizes.activation_bytes(load.rows * load.prompt_tokens, dtype)
        forward = weights.forward_bytes + activations + 2 * sizes.logits_bytes(load.rows)
        run = weights.held_bytes + forward + sizes.cache_bytes(load, dtype)
        return Footprint(weights.load_bytes + _OWN_BYTES, run + _OWN_BYTES)

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        self.check(hw)
        loaded = self._loader.load(model, hw, phase, calibration_ids)
        head.apply_to_wanted(loaded.module)
        last_layer.run_for_wanted(loaded.module)
        # A branch computes its prefix for all rows at once, and a window ends at another token for each row.
        shares = loaded.windows.size is None and shared_prefix.can_share(loaded.module, loaded.attention, hw.device)
        loaded.traits = replace(loaded.traits, shares_prefix=shares, packs_rows=shares)
        # A rank sees the attention of its own heads alone, so it observes nothing.
        if not loaded.traits.ranks and observation.can_observe(loaded.module):
            _make_observable(loaded)
        self._loaded = loaded
        return loaded.traits

    @override
    def new_cache(self, rows: int, capacity: int) -> SlotCache:
        return self._model.new_cache(rows, capacity)

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
        *,
        outputs: frozenset[str] = LOGITS,
        contexts: Sequence[range] = (),
    ) -> Outputs:
        model = self._model
        check_outputs(outputs, model.traits)
        check_contexts(outputs, contexts, lengths, cache)
        plan = _planned(model, ids_BT, lengths, cache, at_BK)
        if not outputs <= LOGITS:
            # The last states of the context are read too, so the last layer runs for all tokens.
            plan = replace(
                plan, last_M=None, observation=Observation.of(plan.at_BK, contexts or [*map(range, lengths)])
            )
        token = CURRENT.set(plan)
        try:
            logits_BKV = _run(model, plan)
        finally:
            CURRENT.reset(token)
        if plan.cache is not None:
            plan.cache.advance(lengths)
        return _outputs(model, logits_BKV.float(), plan.observation, outputs)

    @override
    def synchronize(self) -> None:
        self._model.synchronize()

    @override
    def switch_adapter(self, model: ModelSource, phase: Phase) -> Traits:
        return self._model.switch_adapter(model, phase)

    @override
    def held_adapter(self) -> HeldAdapter | None:
        return self._model.held_adapter()

    @override
    def training(self) -> AbstractContextManager[Training]:
        if self._model.untrainable is not None:
            raise Unsupported(self._model.untrainable)
        return torch_training.training(self._model.module, self._model.device)

    @override
    def profile(self, work: Callable[[], None]) -> Sequence[Operation]:
        return torch_profile.profiled(work, self._model.device)

    @override
    def close(self) -> None:
        if self._loaded is not None:
            device, self._loaded = self._loaded.device, None
            if device == "cuda":
                torch.cuda.empty_cache()

    @property
    def _model(self) -> TorchModule:
        assert self._loaded is not None
        return self._loaded


def _planned(
    model: TorchModule,
    ids_BT: torch.Tensor,
    lengths: Sequence[int],
    cache: SlotCache | Branch | None,
    at_BK: torch.Tensor | None,
) -> ForwardPlan:
    """Return the plan of one forward; a decode step copies only the ids to the device."""
    branch, own = (cache, cache.own) if isinstance(cache, Branch) else (None, cache)
    packed = branch.packed(lengths, model.device) if branch is not None else None
    tokens = ids_BT.shape[1]
    span = Span.behind(own, len(lengths), tokens, model.device)
    mask_BTS = model.mask(span.positions_BT, span.extent) if model.needs_mask(span) else None
    last_M = None
    if packed is None and is_step(tokens, at_BK):
        at_BK = model.first_B1(len(lengths))
    else:
        at_BK = at_BK if at_BK is not None else last_positions(lengths)
        last_M = _wanted_tokens(at_BK, tokens, packed, model.device)
        at_BK = to_device(at_BK, model.device)
    return ForwardPlan(
        ids_BT=to_device(ids_BT, model.device),
        span=span,
        at_BK=at_BK,
        cache=own,
        mask_BTS=mask_BTS,
        branch=BranchCall(branch, packed, last_M) if branch is not None else None,
        last_M=last_M,
    )


def _wanted_tokens(at_BK: torch.Tensor, tokens: int, packed: Packed | None, device: str) -> torch.Tensor | None:
    """Return (M,): indices of the requested tokens in the layers' input; None: the last layer runs for all tokens."""
    total = len(at_BK) * tokens if packed is None else sum(packed.lengths)
    starts = range(0, total, tokens) if packed is None else packed.starts
    wanted_M = last_layer.wanted_tokens(at_BK, starts, total)
    return None if wanted_M is None else to_device(wanted_M, device)


def _run(model: TorchModule, plan: ForwardPlan) -> torch.Tensor:
    """Return the logits (B, K, V) in the module's dtype."""
    held: Any = plan.cache if plan.cache is not None else NoCache()
    if plan.cache is not None:
        plan.cache.begin(plan.span)
    if plan.branch is not None:
        return _run_branch(model, plan, plan.branch, held)
    if model.attention == FLASH:
        # FlashAttention 2 takes no mask, which rows of different lengths need. Each forward sets the kernel in the
        # configuration, which is safe because no other engine uses this module.
        model.module.config._attn_implementation = _kernel(plan)
    logits_BKV: torch.Tensor = model.module(
        input_ids=plan.ids_BT,
        position_ids=model.in_range(plan.span.positions_BT),
        attention_mask=plan.mask_BTS,
        past_key_values=held,
        use_cache=True,
        **({"observation": plan.observation} if plan.observation is not None else {}),
    ).logits
    return logits_BKV


def _kernel(plan: ForwardPlan) -> str:
    """Return the kernel of a forward that is configured with FlashAttention 2."""
    if plan.observation is not None:
        return attention.KERNEL
    return FLASH if plan.mask_BTS is None else "sdpa"


def _make_observable(model: TorchModule) -> None:
    """Declare the outputs beside logits, and register what computes them."""
    notes = model.traits.notes
    if model.attention == "eager":
        attention.use_observed_eager(model.module)
    elif model.attention == FLASH:
        register(attention.KERNEL, attention.attend)
        notes += (f"outputs beside logits: computed with sdpa, since {FLASH} takes no observation",)
    observation.register(model.module, _current_observation)
    more = frozenset({EXTERNAL_CONTEXT, PARAMETRIC_KNOWLEDGE})
    model.traits = replace(model.traits, outputs=LOGITS | more, notes=notes)


def _current_observation() -> Observation | None:
    plan = CURRENT.get()
    return plan.observation if plan is not None else None


def _outputs(model: TorchModule, logits_BKV: torch.Tensor, seen: Observation | None, wanted: frozenset[str]) -> Outputs:
    """Return the wanted outputs. Called after the forward: the head is applied to other states than its own."""
    if seen is None:
        return Outputs(logits_BKV)
    module = model.module
    knowledge_BKL = None
    if PARAMETRIC_KNOWLEDGE in wanted:
        knowledge_BKL = seen.parametric_knowledge(observation.final_norm(module), module.get_output_embeddings())
    context_BKLH = seen.external_context() if EXTERNAL_CONTEXT in wanted else None
    # Of a module over several devices, they were computed on the last one.
    more = [None if scores is None else scores.to(logits_BKV.device) for scores in (context_BKLH, knowledge_BKL)]
    return Outputs(logits_BKV, *more)


def _run_branch(model: TorchModule, plan: ForwardPlan, branch: BranchCall, held: Any) -> torch.Tensor:
    ids_BT, positions_BT = plan.ids_BT, model.in_range(plan.span.positions_BT + branch.shared_tokens)
    options: Mapping[str, Any] = {"attention_mask": plan.mask_BTS, "past_key_values": held, "use_cache": True}
    packed = branch.packed
    if packed is not None:
        at = (packed.row_N, packed.token_N)
        ids_BT, positions_BT = ids_BT[at][None], positions_BT[at][None]
        # A dummy mask keeps the model from building one; packed attention does not read it.
        mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=model.device)
        options = {"attention_mask": mask, "use_cache": False}
    logits_BKV: torch.Tensor = model.module(
        input_ids=ids_BT, position_ids=positions_BT, branch=branch, **options
    ).logits
    branch.check(model.module.config.get_text_config().num_hidden_layers)
    return logits_BKV
