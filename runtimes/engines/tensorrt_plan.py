"""TensorRT's own API over a graph with fixed slots: one engine with two optimization profiles, prefill and decode.

Shapes: B rows, T new tokens per row, K requested positions, N slots, S visible slots, H key-value heads, D head width,
V vocabulary.
"""

from __future__ import annotations

import importlib.metadata
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes import artifacts
from runtime_matrix.runtimes.base import Hardware, ModelSource, Phase, Traits, Unsupported, Weights
from runtime_matrix.runtimes.engines import onnx_graph
from runtime_matrix.runtimes.engines.graph_forms import Static
from runtime_matrix.runtimes.engines.slots import SlotCache, round_up
from runtime_matrix.runtimes.engines.static_graph import Call, Layout, OwnStream, StaticGraph
from runtime_matrix.runtimes.engines.tensorrt_build import Bounds, build, new_logger, refusal
from runtime_matrix.runtimes.weights import full

_PLAN = "model.plan"
_MOST_TOKENS = 2048  # per row: the intermediate memory of the prefill profile grows with the square
_SEEN = 256  # the number of visible slots is rounded up to a multiple of this
_RTX_DEFAULT = "8.6, 8.9 or 12.0"  # compute capabilities for which RTX builds by default
_RTX_NOTES = ("kernels are not specialised for each shape: they would be compiled while they are timed",)
_FORM = 3  # to be increased when the built engine changes


class TensorRTPlan(StaticGraph):
    """A built engine over caches of one size: TensorRT's in-place update requires a fixed number of slots."""

    weight_forms = frozenset({"dense"})
    layer_types = ("full_attention", "sliding_attention")
    adapter_modes = frozenset({"merged"})

    def __init__(
        self,
        trt: Any,  # the module tensorrt or tensorrt_rtx, which have the same API
        dtype: str,
        bounds: tuple[int, int | None],  # batch, tokens per row; None: the model's maximum
        build_only: bool = False,
        weights: Weights | None = None,
    ):
        self._trt, self._dtype, self._bounds, self._build_only = trt, dtype, bounds, build_only
        self._weights: Weights = weights or full.Full()
        self._engine: Any = None
        self._runtime: Any = None
        self._contexts: list[Any] = []
        # Per context (key: is_step), its current call and visible slots.
        self._ready: dict[bool, tuple[weakref.ref[Call], int]] = {}
        self._memory: torch.Tensor | None = None

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        batch, tokens = self._bounds
        # RTX builds for the given compute capability, TensorRT for the GPU of this machine.
        target = hw.compute_capability if self._is_rtx else None
        limits = (onnx_graph.context_length(model), model.max_tokens, _MOST_TOKENS)
        default_tokens = min(limit for limit in limits if limit is not None)
        bounds = Bounds(batch, tokens or default_tokens, target)
        with phase("export"):
            graph = onnx_graph.exported(model, self._weights, self._dtype, hw, phase, Static(bounds.slots))
        with phase("build"):
            plan = self._plan(graph, bounds, hw)
        if self._build_only:
            kind = f" of compute capability {target or _RTX_DEFAULT}" if self._is_rtx else ""
            raise Unsupported(
                f"build_only: the engine is built ({plan.stat().st_size / 2**20:.1f} MiB, {plan}); "
                f"a machine with an NVIDIA GPU{kind} runs it"
            )
        with phase("deserialize"):
            self._start(plan)
        self._describe(hw.device)
        self._slots_N = torch.arange(bounds.slots, device=hw.device)
        self._traits = Traits(
            vocabulary=self._layout.vocabulary,
            max_length=bounds.tokens,
            dtype=self._dtype,
            weight_bytes=onnx_graph.weight_bytes(graph),  # from the graph, since the plan also contains kernels
            weight_disk_bytes=plan.stat().st_size,
            max_batch=bounds.batch,
            build_phases=frozenset({"export", "build"}),
            notes=(*(_RTX_NOTES if self._is_rtx else ()), *full.notes(model, self._dtype)),
        )
        return self._traits

    @override
    def close(self) -> None:
        if self._contexts:
            self._stream.synchronize()
        self._contexts, self._engine, self._memory, self._runtime = [], None, None, None
        self._ready.clear()
        self._slots_N = torch.empty(0)

    @override
    def _slots(self, capacity: int) -> int:
        slots = len(self._slots_N)  # the in-place cache update requires a fixed number of slots
        if capacity > slots:
            raise ValueError(
                f"TensorRT holds {slots} slots per row, and {capacity} are needed: raise runtime.engine.max_tokens"
            )
        return slots

    @override
    def _execute(self, call: Call, cache: SlotCache, extent: int) -> None:
        # Visible slots are rounded up because TensorRT plans its memory again for each new shape.
        visible = min(round_up(extent, _SEEN), len(self._slots_N))
        context = self._contexts[call.is_step]
        previous, previous_visible = self._ready.get(call.is_step, (None, 0))
        if previous is None or previous() is not call or previous_visible != visible:
            self._ready.pop(call.is_step, None)  # so that a failure in `_set` leaves no entry
            self._set(context, call, cache, visible)
            self._ready[call.is_step] = (weakref.ref(call), visible)
        assert self._memory is not None
        context.set_device_memory(self._memory.data_ptr(), self._memory.numel())  # the other context may have grown it
        with self._stream as stream:
            if not context.execute_async_v3(stream):
                raise refusal("TensorRT refused the step", self._logger, RuntimeError)

    def _set(self, context: Any, call: Call, cache: SlotCache, visible: int) -> None:
        """Set the shapes and addresses of a call in the context."""
        held = dict(zip(self._held_names, (*cache.keys, *cache.values), strict=True))
        for name, value in {**call.inputs, "slots": self._slots_N[:visible], **held}.items():
            if not context.set_input_shape(name, tuple(value.shape)):
                raise RuntimeError(self._out_of_bounds(name, tuple(value.shape), call.is_step))
            context.set_tensor_address(name, value.data_ptr())
        for name, value in held.items():
            # The same address as the input, because the cache is updated in place.
            context.set_tensor_address(f"new_{name}", value.data_ptr())
        context.set_tensor_address("logits", call.logits_BKV.data_ptr())
        self._make_memory(context)

    def _out_of_bounds(self, name: str, shape: tuple[int, ...], is_step: bool) -> str:
        lowest, _, highest = self._engine.get_tensor_profile_shape(name, int(is_step))
        return (
            f"TensorRT takes {name} from {tuple(lowest)} to {tuple(highest)} and was given {shape}: "
            "raise runtime.engine.max_batch or max_tokens"
        )

    def _plan(self, graph: Path, bounds: Bounds, hw: Hardware) -> Path:
        # A TensorRT engine runs on the GPU model that built it. An RTX engine is portable: it is finalized on loading.
        gpu = torch.cuda.get_device_name() if hw.device == "cuda" and torch.cuda.is_available() else None
        made_from = {
            "graph": graph.name,
            "bounds": vars(bounds),
            "backend": self._trt.__name__,
            "version": self._trt.__version__,
            "gpu": None if self._is_rtx else gpu,
            "form": _FORM,
            "torch": importlib.metadata.version("torch"),
        }

        def write(folder: Path) -> None:
            (folder / _PLAN).write_bytes(build(self._trt, graph / onnx_graph.GRAPH, bounds))

        return artifacts.entry(hw.artifacts, "tensorrt", made_from, write) / _PLAN

    def _start(self, plan: Path) -> None:
        self._stream = OwnStream()
        # The logger must outlive all objects created with it.
        self._logger = new_logger(self._trt)
        self._runtime = self._trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise refusal("TensorRT cannot load its engine on this GPU", self._logger)
        for profile in range(2):
            context = self._new_context()
            if context is None:
                raise refusal("TensorRT cannot run its engine on this GPU", self._logger)
            context.set_optimization_profile_async(profile, self._stream.handle)
            self._contexts.append(context)
        self._stream.synchronize()

    def _new_context(self) -> Any:
        """Return a context without device memory; `_make_memory` provides it."""
        trt = self._trt
        own = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not self._is_rtx:
            return self._engine.create_execution_context(own)
        options = self._engine.create_runtime_config()
        options.set_execution_context_allocation_strategy(own)
        # By default RTX compiles kernels for each new shape in the background, and every step has a new shape.
        options.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.NONE
        return self._engine.create_execution_context(options)

    def _make_memory(self, context: Any) -> None:
        """Ensure that the shared buffer is large enough for the context's current shapes.

        Both contexts use one buffer in turn. By default each context allocates memory for the largest shape of its
        profile, which wastes gigabytes.
        """
        needed = context.update_device_memory_size_for_shapes()
        if self._memory is None or self._memory.numel() < needed:
            self._memory = None  # freed before the larger buffer is allocated
            self._ready.clear()
            self._memory = torch.empty(max(needed, 1), dtype=torch.uint8, device=self._layout.device)

    @property
    def _is_rtx(self) -> bool:
        return str(self._trt.__name__).startswith("tensorrt_rtx")

    def _describe(self, device: str) -> None:
        engine, trt = self._engine, self._trt
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._held_names = [name for name in names if name.startswith(("key.", "value."))]
        _, heads, _, width = engine.get_tensor_shape(self._held_names[0])
        dtypes = {
            trt.DataType.FLOAT: torch.float32,
            trt.DataType.HALF: torch.float16,
            trt.DataType.BF16: torch.bfloat16,
        }
        self._layout = Layout(
            layers=len(self._held_names) // 2,
            heads=heads,
            width=width,
            dtype=dtypes[engine.get_tensor_dtype(self._held_names[0])],
            vocabulary=engine.get_tensor_shape("logits")[-1],
            logits_dtype=dtypes[engine.get_tensor_dtype("logits")],
            device=device,
        )
