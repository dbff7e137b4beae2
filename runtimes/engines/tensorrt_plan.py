"""TensorRT's own interface over a graph with fixed slots: one engine with a profile for the prompt and one for steps.

Shapes: B rows, T new tokens, K wanted positions, N slots, S seen slots, H heads, D head width, V vocabulary.
"""

from __future__ import annotations

import importlib.metadata
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
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
from runtime_matrix.runtimes.weights import full

_PLAN = "model.plan"
_MOST_TOKENS = 2048  # of a row: what the prompt's profile needs in between grows with their square
_PADDING = 512  # slots
_SEEN = 256  # slots; what is looked at is rounded up to so many
_RTX_DEFAULT = "8.6, 8.9 or 12.0"  # of which GPUs RTX builds for where it is told nothing
_FORM = 3  # raised when what is built changes
_OUT_OF_MEMORY = (
    *("out of memory", "outofmemory", "memoryallocation", "insufficient memory"),
    *("failed to allocate", "could not allocate", "unable to allocate", "requested size"),
)


@dataclass(frozen=True)
class Bounds:
    """What an engine is built for."""

    batch: int
    tokens: int  # of a row
    compute_capability: str | None = None  # that it is built for, such as 8.6; None: the builder's own choice

    @property
    def slots(self) -> int:
        """Of each row of a cache, padding and guesses behind the last token included."""
        return self.tokens + min(self.tokens, _PADDING)


class TensorRTPlan(StaticGraph):
    weight_forms = frozenset({"dense"})

    def __init__(
        self,
        trt: Any,  # the module tensorrt or tensorrt_rtx: their interfaces are one
        dtype: str,
        bounds: tuple[int, int | None],  # batch, tokens; None: by the model
        build_only: bool = False,
        weights: Weights | None = None,
    ):
        self._trt, self._dtype, self._wanted, self._build_only = trt, dtype, bounds, build_only
        self._weights: Weights = weights or full.Full()
        self._engine: Any = None
        self._runtime: Any = None
        self._contexts: list[Any] = []
        self._ready: dict[bool, tuple[weakref.ref[Call], int]] = {}  # what each context is set for: call, seen slots
        self._memory: torch.Tensor | None = None

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        batch, tokens = self._wanted
        # RTX builds for the architectures that it is told, TensorRT for the GPU that is there.
        target = hw.compute_capability if self._is_rtx else None
        most = min(onnx_graph.context_length(model) or _MOST_TOKENS, _MOST_TOKENS)
        bounds = Bounds(batch, tokens or most, target)
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
            weight_bytes=onnx_graph.weight_bytes(graph),  # the plan holds its kernels too
            weight_disk_bytes=plan.stat().st_size,
            max_batch=bounds.batch,
            build_phases=frozenset({"export", "build"}),
            notes=("kernels are not specialised for each shape: they would be compiled while they are timed",)
            if self._is_rtx
            else (),
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
        most = len(self._slots_N)  # the layer that writes in place wants one number
        if capacity > most:
            raise ValueError(
                f"TensorRT holds {most} slots a row, and {capacity} are needed: raise runtime.engine.max_tokens"
            )
        return most

    @override
    def _execute(self, call: Call, cache: SlotCache, extent: int) -> None:
        # Shapes change in steps: each new one makes TensorRT plan its memory anew.
        seen = min(round_up(extent, _SEEN), len(self._slots_N))
        context = self._contexts[call.is_step]
        earlier, earlier_seen = self._ready.get(call.is_step, (None, 0))
        if earlier is None or earlier() is not call or earlier_seen != seen:
            self._ready.pop(call.is_step, None)  # until it is set whole
            self._set(context, call, cache, seen)
            self._ready[call.is_step] = (weakref.ref(call), seen)
        assert self._memory is not None
        context.set_device_memory(self._memory.data_ptr(), self._memory.numel())  # the other context may have grown it
        with self._stream as stream:
            if not context.execute_async_v3(stream):
                raise _refusal("TensorRT refused the step", self._logger, RuntimeError)

    def _set(self, context: Any, call: Call, cache: SlotCache, seen: int) -> None:
        """Tell the context the shapes and addresses of a call."""
        held = dict(zip(self._held_names, (*cache.keys, *cache.values), strict=True))
        for name, value in {**call.inputs, "slots": self._slots_N[:seen], **held}.items():
            if not context.set_input_shape(name, tuple(value.shape)):
                raise RuntimeError(self._out_of_bounds(name, tuple(value.shape), call.is_step))
            context.set_tensor_address(name, value.data_ptr())
        for name, value in held.items():
            context.set_tensor_address(f"new_{name}", value.data_ptr())  # the same place: nothing is copied
        context.set_tensor_address("logits", call.logits_BKV.data_ptr())
        self._make_memory(context)

    def _out_of_bounds(self, name: str, shape: tuple[int, ...], is_step: bool) -> str:
        lowest, _, highest = self._engine.get_tensor_profile_shape(name, int(is_step))
        return (
            f"TensorRT takes {name} from {tuple(lowest)} to {tuple(highest)} and was given {shape}: "
            "raise runtime.engine.max_batch or max_tokens"
        )

    def _plan(self, graph: Path, bounds: Bounds, hw: Hardware) -> Path:
        # An engine of TensorRT fits the GPU that built it; one of RTX any, as it is finished where it runs.
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
        # The logger must outlive everything that was made with it.
        self._logger = _logger(self._trt)
        self._runtime = self._trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise _refusal("TensorRT cannot load its engine on this GPU", self._logger)
        for profile in range(2):
            context = self._new_context()
            if context is None:
                raise _refusal("TensorRT cannot run its engine on this GPU", self._logger)
            context.set_optimization_profile_async(profile, self._stream.handle)
            self._contexts.append(context)
        self._stream.synchronize()

    def _new_context(self) -> Any:
        """Return a context without memory of its own, see `_make_memory`."""
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
        """Have what the context needs for the shapes that were set: both use one buffer, one after the other.

        Left to itself each holds as much as the largest shape of its profile takes: gigabytes for nothing.
        """
        needed = context.update_device_memory_size_for_shapes()
        if self._memory is None or self._memory.numel() < needed:
            self._memory = None  # freed before the larger one is asked for
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


def build(trt: Any, graph: Path, bounds: Bounds) -> bytes:
    """Return the serialized engine. Needs no GPU with TensorRT-RTX. Unsupported for a graph that TensorRT refuses."""
    logger = _logger(trt)
    builder = trt.Builder(logger)
    # Types come from the graph. TensorRT 11 and RTX know nothing else, and may not have the flag.
    if not hasattr(trt.INetworkDefinition, "add_kv_cache_update"):
        raise Unsupported(f"{trt.__name__} {trt.__version__} cannot write a cache in place: 10.15 or later can")
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        raise Unsupported(f"TensorRT cannot read the graph: {parser.get_error(0)}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # which is on by default: float32 means float32 here
    if bounds.compute_capability is not None:
        name = f"SM{bounds.compute_capability.replace('.', '')}"
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(getattr(trt.ComputeCapability, name), 0):
            raise Unsupported(f"TensorRT-RTX does not build for compute capability {bounds.compute_capability}")
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    # Smallest, usual and largest sizes: B, T, S, K.
    usual, tokens = min(64, bounds.tokens), bounds.tokens
    prompt = ((1, 1, 1, 1), (1, usual, usual, 1), (bounds.batch, tokens, bounds.slots, tokens))
    step = ((1, 1, 1, 1), (1, 1, max(1, tokens // 2), 1), (bounds.batch, 1, bounds.slots, 1))
    for sizes in (prompt, step):
        profile = builder.create_optimization_profile()
        for value in inputs:
            profile.set_shape(value.name, *(_shape(value, *size) for size in sizes))
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise _refusal("TensorRT cannot build the engine", logger)
    return bytes(engine)


def _refusal(what: str, logger: Any, otherwise: type[Exception] = Unsupported) -> Exception:
    """Return the exception for what TensorRT said last: MemoryError where it was about memory."""
    kind = MemoryError if any(sign in logger.last.lower() for sign in _OUT_OF_MEMORY) else otherwise
    return kind(f"{what}: {logger.last}")


def _shape(value: Any, rows: int, tokens: int, seen: int, wanted: int) -> tuple[int, ...]:
    known = {"ids": (rows, tokens), "positions": (rows, tokens), "at": (rows, wanted), "slots": (seen,)}
    return known.get(value.name, (rows, *value.shape[1:]))


def _logger(trt: Any) -> Any:
    """Return a logger that keeps the last error, and writes warnings and errors to the cell's log."""

    class Last(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = "it gave no reason"

        def log(self, severity: Any, text: str) -> None:
            if severity <= trt.ILogger.Severity.WARNING:
                print(f"TensorRT: {text}", file=sys.stderr)
            if severity <= trt.ILogger.Severity.ERROR:
                self.last = str(text).splitlines()[0]

    return Last()
