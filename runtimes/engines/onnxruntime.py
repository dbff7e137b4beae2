"""ONNX Runtime over an exported graph: with a growing past on a CPU, with fixed slots on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import (
    EXTERNAL_CONTEXT,
    LOGITS,
    PARAMETRIC_KNOWLEDGE,
    Hardware,
    ModelSource,
    Outputs,
    Phase,
    Runtime,
    Traits,
    Unsupported,
    Weights,
    check_contexts,
    check_outputs,
)
from runtime_matrix.runtimes.engines import exported_graph, onnx_graph, onnx_profile
from runtime_matrix.runtimes.engines.chosen import Chosen
from runtime_matrix.runtimes.engines.exported_graph import ELEMENTS, ExportedGraph
from runtime_matrix.runtimes.engines.graph_forms import Form, Past, Static
from runtime_matrix.runtimes.engines.observed_form import Observed
from runtime_matrix.runtimes.engines.past import PastCache
from runtime_matrix.runtimes.engines.past_branch import PastBranch
from runtime_matrix.runtimes.engines.past_graph import PastGraph, Tensors
from runtime_matrix.runtimes.engines.positions import last_positions
from runtime_matrix.runtimes.engines.slots import SlotCache, round_up
from runtime_matrix.runtimes.engines.static_graph import Call, Layout, OwnStream, StaticGraph
from runtime_matrix.runtimes.footprint import Footprint, Load, ModelSizes
from runtime_matrix.runtimes.operations import Operation
from runtime_matrix.runtimes.weights import full
from runtime_matrix.runtimes.weights.packages import require

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# Memory on a CPU, as measured: activations relative to eager PyTorch's, copies of the attention scores, and the rest.
_ACTIVATIONS, _SCORES, _OWN_BYTES = 1.6, 5.2, 45 * 2**20
_SLOTS = 256  # slot counts are rounded up to a multiple: ONNX Runtime plans its memory for each new shape


class OnnxRuntime(Chosen):
    """A model run by ONNX Runtime with one execution provider.

    `provider=None` selects the provider of the device. A provider that cannot run raises Unsupported; there is no
    fallback.
    """

    weight_forms = frozenset({"dense", "onnx"})
    layer_types = ("full_attention", "sliding_attention")
    adapter_modes = frozenset({"merged"})
    distributions = ("onnxruntime", "onnxruntime-gpu", "onnx")

    def __init__(self, dtype: str = "float32", provider: str | None = None, weights: Weights | None = None):
        self._dtype, self._provider = dtype, provider
        self._weights: Weights = weights or full.Full()
        self._engine: Runtime | None = None

    @override
    def check(self, hw: Hardware) -> None:
        extra = "onnx" if hw.device == "cpu" else "onnx-gpu"
        require("onnxruntime", extra)
        onnx_graph.check(extra, self._weights)
        self._weights.check(hw)
        if self._dtype != "float32" and hw.device == "cpu":
            raise Unsupported(f"ONNX Runtime does not run {self._dtype} on a CPU: use runtime.dtype=float32")
        _check_provider(self._provider or _PROVIDERS[hw.device])
        if hw.device == "cuda" and self._provider not in (None, _PROVIDERS["cuda"]):
            raise Unsupported(
                f"runtime.engine.provider={self._provider}: on a GPU the cache is written in place, which only "
                f"{_PROVIDERS['cuda']} supports: leave the provider out, or use runtime=tensorrt or hw=cpu"
            )

    @override
    def footprint(self, model: ModelSource, sizes: ModelSizes, load: Load, hw: Hardware) -> Footprint | None:
        graph = exported_graph.footprint(model, self._weights, self._dtype, sizes, hw, Past())
        if graph is None:
            return None
        forward = (
            _ACTIVATIONS * sizes.activation_bytes(load.rows * load.prompt_tokens, self._dtype)
            + _SCORES * sizes.score_bytes(load, self._dtype)
            + 2 * sizes.cache_bytes(load, self._dtype)  # past and present
            + 2 * sizes.logits_bytes(load.rows)
        )
        return Footprint(graph.load_bytes + _OWN_BYTES, graph.held_bytes + graph.forward_bytes + forward + _OWN_BYTES)

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        self.check(hw)
        kind = OnCpu if hw.device == "cpu" else OnGpu
        self._engine = kind(_Loader(self._dtype, self._provider or _PROVIDERS[hw.device], self._weights))
        return self._engine.load(model, hw, phase, calibration_ids)


@dataclass(frozen=True)
class _Session:
    """A session over an exported graph."""

    session: Any
    graph: ExportedGraph
    traits: Traits
    reopen: Callable[[Path], Any]  # a session over the same graph that writes a trace to a path with this start


@dataclass(frozen=True)
class _Loader:
    """Exports a model and opens a session over its graph."""

    dtype: str
    provider: str
    weights: Weights

    def load(
        self,
        model: ModelSource,
        hw: Hardware,
        phase: Phase,
        form: Form,
        provider_options: Callable[[], dict[str, str]] = dict,
    ) -> _Session:
        """Load in the phases import, export and session; `provider_options` is called in the phase session."""
        graph = exported_graph.load(model, self.weights, self.dtype, hw, phase, form, "onnxruntime")
        open_session = partial(_session, graph.path, self.provider, provider_options, hw.threads)
        with phase("session"):
            session = open_session()
        return _Session(session, graph, graph.traits(model, self.dtype), open_session)

    def observed(self, model: ModelSource, hw: Hardware) -> Any:
        """Return a session over the graph with all outputs; export the graph if it is not in the artifact cache."""
        folder = onnx_graph.exported(model, self.weights, self.dtype, hw, lambda name: nullcontext(), Observed())
        return _session(folder / onnx_graph.GRAPH, self.provider, dict, hw.threads)


class OnCpu(PastGraph):
    """Passes tensors as NumPy arrays of the same memory: I/O binding of each tensor would cost more than it saves.

    Outputs beside logits come from a graph of their own, opened at their first use, so that other forwards do not
    compute them.
    """

    def __init__(self, loader: _Loader):
        self._loader = loader
        self._session: Any = None
        self._observed: Any = None

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        self._loaded = loaded = self._loader.load(model, hw, phase, Past())
        self._session = loaded.session
        self._open_observed = partial(self._loader.observed, model, hw)
        more = frozenset({EXTERNAL_CONTEXT, PARAMETRIC_KNOWLEDGE})
        return self._describe(loaded.graph, replace(loaded.traits, outputs=LOGITS | more))

    @override
    def forward(
        self,
        ids_BT: torch.Tensor,
        lengths: Sequence[int],
        cache: PastCache | PastBranch | None = None,
        at_BK: torch.Tensor | None = None,
        *,
        outputs: frozenset[str] = LOGITS,
        contexts: Sequence[range] = (),
    ) -> Outputs:
        if outputs <= LOGITS:
            return super().forward(ids_BT, lengths, cache, at_BK, outputs=outputs)
        check_outputs(outputs, self._traits)
        check_contexts(outputs, contexts, lengths, cache)
        if self._observed is None:
            self._observed = self._open_observed()
        context_B2 = torch.tensor([[context.start, context.stop] for context in contexts or map(range, lengths)])
        inputs = {"ids": ids_BT, "at": last_positions(lengths) if at_BK is None else at_BK, "context": context_B2}
        names = ("logits", EXTERNAL_CONTEXT, PARAMETRIC_KNOWLEDGE)
        arrays = self._observed.run(names, {name: value.contiguous().numpy() for name, value in inputs.items()})
        logits_BKV, context_BKLH, knowledge_BKL = map(torch.from_numpy, arrays)
        return Outputs(
            logits_BKV.float(),
            context_BKLH if EXTERNAL_CONTEXT in outputs else None,
            knowledge_BKL if PARAMETRIC_KNOWLEDGE in outputs else None,
        )

    @override
    def _execute(self, inputs: Tensors, keep: bool) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        names = self._names if keep else self._names[:1]
        arrays = self._session.run(names, {name: value.numpy() for name, value in inputs.items()})
        logits_BKV, *present = map(torch.from_numpy, arrays)
        return logits_BKV, present

    @override
    def profile(self, work: Callable[[], None]) -> Sequence[Operation]:
        plain = self._session
        with TemporaryDirectory() as folder:
            self._session = self._loaded.reopen(Path(folder) / "trace")  # profiling is decided as a session opens
            try:
                work()
                trace = Path(self._session.end_profiling())
            finally:
                self._session = plain
            return onnx_profile.operations(trace, self._loader.provider)

    @override
    def close(self) -> None:
        self._session = self._observed = None


class OnGpu(StaticGraph):
    """Binds all inputs and outputs to torch's memory; runs asynchronously on a stream that is ordered with torch's."""

    def __init__(self, loader: _Loader):
        self._loader = loader
        self._session: Any = None

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        loaded = self._loader.load(model, hw, phase, Static(), self._options)
        self._session, self._held_names = loaded.session, loaded.graph.held_names
        self._layout, self._traits = Layout.of(loaded.graph, hw.device), loaded.traits
        self._run_options = _without_waiting()
        return self._traits

    def _options(self) -> dict[str, str]:
        self._stream = OwnStream()
        return _provider_options(self._loader.provider, self._stream.handle)

    @override
    def _slots(self, capacity: int) -> int:
        return round_up(capacity, _SLOTS)

    @override
    def _execute(self, call: Call, cache: SlotCache, extent: int) -> None:
        if call.bound is None:
            call.bound = self._bind(call, cache)
        with self._stream:
            self._session.run_with_iobinding(call.bound, self._run_options)

    def _bind(self, call: Call, cache: SlotCache) -> Any:
        binding, card = self._session.io_binding(), call.logits_BKV.device.index or 0

        def bind(side: Any, name: str, value: torch.Tensor) -> None:
            side(name, self._layout.device, card, ELEMENTS[value.dtype], tuple(value.shape), value.data_ptr())

        if "slots" not in cache.prepared:
            cache.prepared["slots"] = torch.arange(cache.slots, device=call.logits_BKV.device)
        for name, value in {**call.inputs, "slots": cache.prepared["slots"]}.items():
            bind(binding.bind_input, name, value)
        for name, held in zip(self._held_names, (*cache.keys, *cache.values), strict=True):
            bind(binding.bind_input, name, held)
            bind(binding.bind_output, f"new_{name}", held)  # the same address: the cache is updated in place
        bind(binding.bind_output, "logits", call.logits_BKV)
        return binding

    @override
    def close(self) -> None:
        self._session = None


def _without_waiting() -> Any:
    """Return run options with which a call returns once its work is enqueued."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return options


def _check_provider(provider: str) -> None:
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise Unsupported(
            f"ONNX Runtime has no {provider}; it has {', '.join(available)}: "
            "install the extra onnx-gpu instead of onnx, or use hw=cpu"
        )


def _provider_options(provider: str, stream: int) -> dict[str, str]:
    """Return the provider's options. CUDA: full float32 instead of TF32, torch's device, `stream`, no spare memory."""
    if provider != _PROVIDERS["cuda"]:
        return {}
    return {
        "use_tf32": "0",
        "device_id": str(torch.cuda.current_device() if torch.cuda.is_available() else 0),
        "user_compute_stream": str(stream),
        "arena_extend_strategy": "kSameAsRequested",  # by default each extension doubles the arena
    }


def _session(
    graph: Path, provider: str, provider_options: Callable[[], dict[str, str]], threads: int, trace: Path | None = None
) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Spinning threads would take cores from processes that are measured at the same time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if trace is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(trace)
    session = onnxruntime.InferenceSession(graph, options, providers=[(provider, provider_options())])
    if session.get_providers()[0] != provider:  # ONNX Runtime silently replaces providers that cannot load
        raise Unsupported(
            f"ONNX Runtime replaced {provider} with {session.get_providers()[0]}, because it could not load it: "
            "see its log"
        )
    return session
