"""The runtime interface: token ids in, logits out. No strings, prompts, clocks, batching policy or printing.

Shape suffixes: B batch (rows), T new tokens per row, K positions per row whose outputs are returned, V vocabulary size,
L layers, H query heads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from runtime_matrix.runtimes.footprint import Footprint, Load, ModelSizes
from runtime_matrix.runtimes.operations import Operation
from runtime_matrix.runtimes.ranks import Rank
from runtime_matrix.runtimes.training import Training

if TYPE_CHECKING:  # importing torch takes seconds, and the command line imports this module
    import torch

Phase = Callable[[str], AbstractContextManager[None]]  # the caller's timer for a load phase: `with phase("export"):`
ReadOnlyJson = Mapping[str, Any]  # JSON with keys defined elsewhere, such as a transformers configuration
LOGITS = frozenset({"logits"})  # the default outputs of `Runtime.forward`
# Scores of a token by which unsupported answers are detected: ReDeEP, Sun et al. 2024, arXiv 2410.11414. See `Outputs`.
EXTERNAL_CONTEXT, PARAMETRIC_KNOWLEDGE = "external_context", "parametric_knowledge"
ATTENDED_ONE_IN = 10  # an External Context Score reads one in so many of the context's tokens: the most attended


class Unsupported(Exception):
    """The machine or installation does not support the request.

    The message is one line: what is missing and what to install or change.
    """


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter over a model: a folder in PEFT's layout."""

    name: str
    folder: Path
    digest: str  # identifies the content
    is_merged: bool  # added to the model's weights; False: held and computed beside them


@dataclass(frozen=True)
class ModelSource:
    """Source of the weights: a folder in Hugging Face format, or an architecture with seeded random weights.

    `folder` may also be a GGUF file, whose name ends in .gguf: engines with `gguf` among their `weight_forms` receive
    it as it is, and `weights.full` dequantizes it for the others.
    """

    digest: str  # identifies the model's content, its adapter included; part of artifact keys
    folder: Path | None = None
    architecture: ReadOnlyJson | None = None  # transformers configuration, `model_type` included
    seed: int = 0
    stored_method: str | None = None  # quantization method of the folder's weights, such as gptq; None: not quantized
    adapter: Adapter | None = None
    base_digest: str | None = None  # of the model below the adapter; None without one
    max_tokens: int | None = None  # most tokens per row that are asked for; None: as many as the model takes

    @property
    def base(self) -> ModelSource:
        """Return the model below the adapter; the model itself without one."""
        if self.adapter is None:
            return self
        return replace(self, digest=self.base_digest or self.digest, adapter=None, base_digest=None)


@dataclass(frozen=True)
class Hardware:
    """The device, CPU threads and artifact folder that a runtime uses."""

    device: str  # "cpu" or "cuda"
    threads: int
    artifacts: Path = Path("results/runs/artifacts")  # folder of built graphs and compile caches
    compute_capability: str | None = None  # of the target GPU, such as 8.0; None: that of the installed GPU


@dataclass(frozen=True)
class Buckets:
    """Sizes to which a compiled engine pads its inputs, in ascending order. Empty: inputs are not padded."""

    batch: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()

    def limited(self, max_tokens: int | None) -> Buckets:
        """Return the sizes for rows of at most `max_tokens` tokens: it replaces all larger ones."""
        if max_tokens is None:
            return self
        return replace(self, tokens=tuple(sorted({min(size, max_tokens) for size in self.tokens})))

    def pad_batch(self, rows: int) -> int:
        """Return the number of rows to which a batch of `rows` rows is padded."""
        return _round_up(rows, self.batch)

    def pad_tokens(self, tokens: int) -> int:
        """Return the number of tokens to which a row of `tokens` tokens is padded."""
        return _round_up(tokens, self.tokens)


def _round_up(size: int, steps: tuple[int, ...]) -> int:
    """Return the smallest step of at least `size`; above the largest step, `size` itself (which costs a recompile)."""
    return next((step for step in steps if step >= size), size)


@dataclass(frozen=True)
class Traits:
    """Properties of a loaded runtime. The core depends on these values, never on the runtime's name."""

    vocabulary: int  # V, the last dimension of the logits
    max_length: int | None  # most tokens per row; None: the model states no limit
    dtype: str  # the dtype that the computation really uses
    weight_bytes: int | None  # in memory; None: unknown
    weight_disk_bytes: int | None = None  # None: unknown, or the weights were never on disk
    outputs: frozenset[str] = LOGITS  # the outputs that `forward` supports
    kv_dtype: str | None = None  # in which the cache holds keys and values, such as float16 or q8_0; None: unknown
    kv_bytes_per_token: int | None = None  # of the cache, for one row and all layers; None: unknown
    max_batch: int | None = None  # rows; None: no limit
    buckets: Buckets = field(default_factory=Buckets)
    shares_prefix: bool = False  # True: `branch` lets many rows read one cached prefix without copying it
    packs_rows: bool = False  # True: rows of a `branch` cache are computed without their padding
    batch_tokens: int = 4096  # best size of a batch, in tokens; smaller where activations should fit the CPU caches
    dtype_note: str | None = None  # warning that the processor emulates the dtype, with the measured slowdown
    notes: tuple[str, ...] = ()  # fallbacks that the runtime took, stored in the record
    is_scripted: bool = False  # True: there is no model, and the outputs are predefined
    caches_prompts: bool = False  # True: a repeated prompt may be faster than a new one; undeclared, it fails the audit
    ranks: tuple[Rank, ...] = ()  # that hold parts of the weights; `weight_bytes` is their sum. Empty: one process
    communicating_threads: frozenset[str] = frozenset()  # names of threads that carry data between ranks
    build_phases: frozenset[str] = frozenset()  # phases of `load` whose result is cached for later starts


def check_contexts(wanted: frozenset[str], contexts: Sequence[range], lengths: Sequence[int], cache: object) -> None:
    """Raise ValueError if outputs other than logits are wanted with a cache, or without contexts that fit the rows."""
    if wanted <= LOGITS:
        return
    if cache is not None:
        raise ValueError(f"{', '.join(sorted(wanted - LOGITS))}: computed without a cache only")
    if EXTERNAL_CONTEXT in wanted and len(contexts) != len(lengths):
        raise ValueError(f"{EXTERNAL_CONTEXT} needs the context of each of {len(lengths)} rows, not {len(contexts)}")
    for context, length in zip(contexts, lengths, strict=False):
        if not (0 <= context.start < context.stop <= length and context.step == 1):
            raise ValueError(f"the context {context} is not a part of a row of {length} tokens")


def check_outputs(wanted: frozenset[str], traits: Traits) -> None:
    """Raise ValueError if `wanted` has outputs that are not in `traits.outputs`."""
    unknown = wanted - traits.outputs
    if unknown:
        raise ValueError(
            f"this runtime has no output {', '.join(sorted(unknown))}: ask for {', '.join(sorted(traits.outputs))}"
        )


@dataclass(frozen=True)
class LoadRequest:
    """Arguments of `Weights.load`."""

    model: ModelSource
    dtype: str  # dtype of the computation, by its torch name, such as bfloat16
    attention: str  # attention implementation in transformers: sdpa, eager or flash_attention_2
    hw: Hardware  # the module is returned on `hw.device`
    calibration_ids: Sequence[Sequence[int]] = ()  # token ids, one list per sequence; empty unless `needs_calibration`
    # Not None: a `PlacementPlan` moves the parts, which packs their layers. The module is returned on the host, not yet
    # packed, and the parts of these names stay dense.
    dense_parts: tuple[str, ...] | None = None
    ranks: int = 1  # of torch.distributed's group, which this process is in: each loads its part of the matrices


class Weights(Protocol):
    """Loads a model's weights, as stored or quantized.

    `form` is the form that an engine must support: `dense` (a module of plain tensors), `packed` (a module whose
    quantized layers have their own kernels), `onnx` (the exported graph is quantized: see `GraphWeights`) or `gguf`
    (the weights are quantized as llama.cpp's file is written: see `GgufWeights`).

    Optional method `gpu_dtypes(model) -> Sequence[str]`: the dtypes that the GPU kernels support, the preferred one
    first. Without it, any dtype. A class without `keeps_values` counts as one that changes the values. Optional class
    variable `loads_parts: bool`: whether `load` can load one rank's part. Without it, False.
    Optional method `footprint(sizes, dtype) -> WeightFootprint`: what they take of the host of a CPU. Without it, that
    is unknown.
    """

    form: ClassVar[str]
    keeps_values: ClassVar[bool]  # whether the stored values are unchanged, except for the cast to the runtime's dtype
    needs_calibration: ClassVar[bool]
    packages: ClassVar[tuple[str, ...]]  # modules that loading imports, other than torch and transformers
    # Names on the package index of the distributions that contain these modules; records store their versions. The
    # value is parsed from the source of the class, because importing the class may take seconds. It must therefore be
    # a tuple of string literals, and subclasses do not inherit it.
    distributions: ClassVar[tuple[str, ...]]

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """JSON that identifies these weights: part of the key of every artifact built from them."""
        ...

    def check(self, hw: Hardware) -> None:
        """Raise Unsupported if the machine or installation cannot load these weights. Loads nothing."""
        ...

    def load(self, request: LoadRequest) -> Any:
        """Return a `transformers` causal language model in inference mode.

        Raises Unsupported if these weights are not available for the model.
        """
        ...


class GraphWeights(Weights, Protocol):
    """Weights of the form `onnx`: `load` returns the dense module, and `pack` quantizes the graph exported from it."""

    packers: ClassVar[tuple[str, ...]]  # modules that `pack` imports in addition to `packages`

    @property
    def int8_activations(self) -> bool:
        """Whether activations are quantized to int8 at run time."""
        ...

    def pack(self, dense: Path, folder: Path) -> None:
        """Quantize the graph `model.onnx` in the folder `dense` and write it to `folder` under the same name."""
        ...


class GgufWeights(Weights, Protocol):
    """Weights of the form `gguf`: `load` returns the dense module, whose matrices are written in `tensor_type`."""

    tensor_type: str  # ggml's name, such as Q8_0


class Placement(Protocol):
    """Distributes the parts of a loaded module over devices, host memory and disk.

    A class without `is_whole` counts as one that moves some parts off the compute device. A placement over several
    processes has two more methods: `ranks(hw) -> int`, their number, and `spread(runtime) -> Runtime`, which returns
    the runtime that computes on all of them. Each loads its part, so `place` has nothing to move.
    Optional method `footprint(weights, sizes, dtype) -> WeightFootprint`: what the placement leaves of them on the host
    of a CPU. Without it, that is unknown.
    """

    packages: ClassVar[tuple[str, ...]]  # modules that `place` imports
    distributions: ClassVar[tuple[str, ...]]  # as in `Weights`
    is_whole: ClassVar[bool]  # whether all weights are on the compute device
    weight_forms: ClassVar[frozenset[str]]  # supported values of `Weights.form`

    def check(self, hw: Hardware) -> None:
        """Raise Unsupported if the machine or installation does not support this placement. Loads nothing."""
        ...

    def place(self, module: Any, hw: Hardware) -> Any:
        """Return the module, ready to run. Raises Unsupported if this placement does not work for the module."""
        ...


class Cache(Protocol):
    """The KV cache of a runtime, one sequence per row. Callers use only the members below; the rest is opaque."""

    @property
    def lengths(self) -> list[int]:
        """The number of cached tokens of each row."""
        ...

    def select(self, rows: Sequence[int]) -> Cache:
        """Return a cache of the given rows, in that order; rows may repeat. This cache stays valid."""
        ...

    def rewind(self, lengths: Sequence[int]) -> None:
        """Truncate row b to its first `lengths[b]` tokens, in place. Raises ValueError if a row has fewer."""
        ...

    def replace(self, rows: Sequence[int], source: Any) -> None:
        """Overwrite row `rows[i]` with row i of `source`, a cache of the same runtime."""
        ...


class HeldAdapter(Protocol):
    """An adapter beside the weights of a loaded model."""

    @property
    def memory_bytes(self) -> int:
        """The size of its factors in memory."""
        ...

    def switch_seconds(self, times: int) -> tuple[float, list[float]]:
        """Return the seconds to read and attach a second adapter of the same files, and those of each switch."""
        ...


@dataclass(frozen=True)
class Outputs:
    """The outputs of one call of `Runtime.forward`, in float32 on the runtime's device; None: not requested.

    `external_context_BKLH`: for each head, the cosine between the token's last state and the mean last state of the
    context tokens that the head attends to most (one in `ATTENDED_ONE_IN`, rounded down, at least one). The last state
    is that after the final norm, as transformers returns it. -1 to 1.
    `parametric_knowledge_BKL`: for each layer, the Jensen-Shannon divergence between the distributions over the
    vocabulary before and after the layer's feed-forward network, each through the final norm and the head. In nats, 0
    to ln 2.
    """

    logits_BKV: torch.Tensor
    external_context_BKLH: torch.Tensor | None = None
    parametric_knowledge_BKL: torch.Tensor | None = None


class Engine(ABC):
    """What both kinds of engines have in common: see `Runtime` here and `RequestRuntime` in `requests.py`.

    Call `load` first and `close` last; `close` may be called more than once. As a context manager, an engine closes at
    the end of the block: `with make_runtime(config) as runtime:`.
    """

    weight_forms: ClassVar[frozenset[str]] = frozenset({"dense"})  # supported values of `Weights.form`
    places_modules: ClassVar[bool] = False  # whether the constructor has a parameter `placement`
    is_remote: ClassVar[bool] = (
        False  # computes outside this process and its children, whose CPU and memory are unknown
    )
    distributions: ClassVar[tuple[str, ...]] = ()  # as in `Weights`
    # Types of attention layers that it computes, as transformers names them; empty: any. Parsed, as `distributions` is.
    layer_types: ClassVar[tuple[str, ...]] = ()
    extends_cache: ClassVar[bool] = False  # whether a caller can run a prompt in parts, each after the cached ones
    # MODULE:FUNCTION of checks that receive the options as a mapping and raise Unsupported for a mistake that they show
    # alone. Their modules import nothing large. Parsed from the source, as `distributions` are.
    option_checks: ClassVar[tuple[str, ...]] = ()
    # Options that round what is computed further than the dtype does, unless null, false or float32. Parsed as well.
    rounding_options: ClassVar[tuple[str, ...]] = ()
    adapter_modes: ClassVar[frozenset[str]] = frozenset()  # how a `model.adapter` is computed: `beside`, `merged`

    def check(self, hw: Hardware) -> None:  # noqa: B027  # by default a runtime has no requirements
        """Raise Unsupported if a requirement of the runtime is missing, such as a package, a GPU or a compiler.

        Called before any other work on a benchmark cell; it loads, exports and builds nothing.
        """

    @abstractmethod
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        """Load the model or build the engine, with each stage inside `with phase(name)`; return the traits.

        `calibration_ids` has one list of token ids per sequence. Package imports belong in the phase `import`, so that
        import time is separate from model load time. Raises Unsupported if the machine or installation cannot run the
        model.
        """

    def footprint(self, model: ModelSource, sizes: ModelSizes, load: Load, hw: Hardware) -> Footprint | None:
        """Return the memory that `load` and one load will take of the host; None: unknown. Loads nothing.

        What is in the artifact cache already takes less, so it may look there.
        """
        return None

    def processes(self) -> Sequence[int]:
        """Return the ids of the processes of the other ranks, in their order; empty if this process computes alone."""
        return ()

    def counters(self) -> dict[str, int]:
        """Return exact counts since `load`: compiled graphs, recompiles, graph breaks, fallback nodes."""
        return {}

    @abstractmethod
    def close(self) -> None:
        """Free all resources. Safe to call twice, and before `load`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class Runtime(Engine):
    """An engine that computes one step at a time: token ids in, logits out."""

    extends_cache = True

    @abstractmethod
    def new_cache(self, rows: int, capacity: int) -> Cache:
        """Return an empty cache of `rows` rows with space for `capacity` tokens per row, padding included."""

    @abstractmethod
    def forward(
        self,
        ids_BT: torch.Tensor,
        lengths: Sequence[int],
        cache: Any = None,  # from `new_cache` or `branch` of this runtime
        at_BK: torch.Tensor | None = None,
        *,
        outputs: frozenset[str] = LOGITS,
        contexts: Sequence[range] = (),
    ) -> Outputs:
        """Run the new tokens of each row after its cached tokens and append them to the cache, in place.

        Rows are right-padded: the first `lengths[b]` ids of row b are tokens, the rest is padding. `at_BK` holds the
        positions (indices into T) whose outputs are returned; None: the last token of each row (K = 1). Without a
        cache, rows start at position 0 and no state is kept. `outputs` names the outputs to return; logits are always
        returned.

        Outputs other than logits are computed without a cache. `external_context` needs each row's context: a range of
        tokens before the row's positions in `at_BK`. Reductions happen layer by layer: no (T, T) matrix is kept.

        Raises ValueError if an output is not in `Traits.outputs` (`check_outputs`), if a context is missing, empty or
        reaches beyond the row, or if a row of the cache has too little space.
        """

    def branch(self, cache: Any, rows: int, capacity: int) -> Cache:
        """Return a cache of `rows` rows that all continue row 0 of `cache`, the shared prefix, without copying it.

        Each row has space for `capacity` tokens of its own (0: for a single forward, which stores nothing). Its
        `lengths` include the prefix, and a row cannot be rewound into the prefix. `cache` must not change while the
        branch is in use. Supported only if `Traits.shares_prefix`.
        """
        raise NotImplementedError

    @abstractmethod
    def synchronize(self) -> None:
        """Block until all submitted work has finished."""

    def switch_adapter(self, model: ModelSource, phase: Phase) -> Traits:
        """Replace the adapter of the loaded model by `model.adapter`, which has the same layers; return the traits.

        The base stays loaded. Raises Unsupported without an adapter held beside the weights.
        """
        raise Unsupported("the runtime cannot switch adapters")

    def held_adapter(self) -> HeldAdapter | None:
        """Return the adapter that is held beside the weights; None without one."""
        return None

    def training(self) -> AbstractContextManager[Training]:
        """Return the loaded model for training steps; after the block it computes what it did before.

        Raises Unsupported, here or at the start of the block, if the weights cannot have gradients.
        """
        raise Unsupported("this engine computes no gradients: use runtime=eager")

    def profile(self, work: Callable[[], None]) -> Sequence[Operation] | None:
        """Run `work`, which calls `forward`, under the engine's own profiler, and return its operations.

        None: the engine has no profiler, and `work` was not run. Profiling slows the calls, so it is never timed.
        """
        return None
