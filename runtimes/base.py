"""The contract of a runtime: token ids in, logits out. No strings, prompts, clocks, batching policy or printing.

Shapes: B batch (rows), T new tokens a row, K positions whose outputs are asked for, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

if TYPE_CHECKING:  # torch costs seconds to import, and the command line reads this module
    import torch

Phase = Callable[[str], AbstractContextManager[None]]  # the caller's stop watch: `with phase("export"):`
ReadOnlyJson = Mapping[str, Any]  # whose keys the reading module does not know: a configuration in transformers' words
LOGITS = frozenset({"logits"})  # what `Runtime.forward` returns unless it is asked for something else


class Unsupported(Exception):
    """This machine or installation cannot run what was asked. One line: what is missing and what to install or do."""


@dataclass(frozen=True)
class ModelSource:
    """Where the weights come from: a folder in Hugging Face's layout, or an architecture with seeded random weights."""

    digest: str
    folder: Path | None = None
    architecture: ReadOnlyJson | None = None
    seed: int = 0
    stored_method: str | None = None  # that made the folder's weights small, such as gptq; None: they are plain


@dataclass(frozen=True)
class Hardware:
    """What a runtime is to run on."""

    device: str  # "cpu" or "cuda"
    threads: int
    artifacts: Path = Path("results/runs/artifacts")  # where built graphs and compile caches are kept
    compute_capability: str | None = None  # of the GPU that is meant, such as 8.0; None: of the one that is there


@dataclass(frozen=True)
class Buckets:
    """Sizes that a compiled or built engine wants; empty means that every size is as good as another."""

    batch: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()

    def pad_batch(self, rows: int) -> int:
        """Return how many rows a batch of `rows` is padded to."""
        return _round_up(rows, self.batch)

    def pad_tokens(self, tokens: int) -> int:
        """Return how many tokens a row of `tokens` is padded to."""
        return _round_up(tokens, self.tokens)


def _round_up(size: int, steps: tuple[int, ...]) -> int:
    """Return the smallest step that holds `size`; beyond the largest step, `size` itself (it costs a recompile)."""
    return next((step for step in steps if step >= size), size)


@dataclass(frozen=True)
class Traits:
    """What a loaded runtime declares. The core reads these values and never the runtime's name."""

    vocabulary: int
    max_length: int | None  # tokens a row may hold; None: the model states no limit
    dtype: str  # what the weights are really computed in
    weight_bytes: int | None  # in memory
    weight_disk_bytes: int | None = None
    outputs: frozenset[str] = LOGITS  # what `forward` can be asked for
    max_batch: int | None = None
    buckets: Buckets = field(default_factory=Buckets)
    shares_prefix: bool = False  # True: many rows read one prefix without a copy of it
    packs_rows: bool = False  # True: such rows cost their tokens only, whatever they are padded to
    batch_tokens: int = 4096  # that a batch runs best with; fewer where they should stay in a processor's caches
    dtype_note: str | None = None  # where the processor emulates the dtype: that it does, and how slowly
    notes: tuple[str, ...] = ()  # announced fallbacks, kept in the record
    is_scripted: bool = False  # it holds no model: what it answers was written beforehand
    build_phases: frozenset[str] = frozenset()  # of `load`: those that make something which a later start finds


def check_outputs(wanted: frozenset[str], traits: Traits) -> None:
    """Raise ValueError where `forward` is asked for outputs that the traits do not name."""
    unknown = wanted - traits.outputs
    if unknown:
        raise ValueError(
            f"this runtime has no output {', '.join(sorted(unknown))}: ask for {', '.join(sorted(traits.outputs))}"
        )


@dataclass(frozen=True)
class LoadRequest:
    """Which module `Weights.load` is to return."""

    model: ModelSource
    dtype: str  # that is computed in, by torch's name, such as bfloat16
    attention: str  # transformers' name of it: sdpa, eager or flash_attention_2
    hw: Hardware  # the module's tensors lie on its device
    calibration_ids: Sequence[Sequence[int]] = ()  # token ids of sequences; empty unless `needs_calibration`


class Weights(Protocol):
    """How a model's weights come into memory: as stored, or made smaller.

    `form` is what an engine must be able to take: `dense` (a module of plain tensors), `packed` (a module whose layers
    have kernels of their own) or `onnx` (an exported graph is made smaller: see `GraphWeights`). Weights whose kernels
    on a GPU take some dtypes only have a method `gpu_dtypes(model)` that returns them, the preferred one first. A class
    that does not state `keeps_values` is taken for one that changes them.
    """

    form: ClassVar[str]
    keeps_values: ClassVar[bool]  # whether weights have the values that were stored, but for the runtime's dtype
    needs_calibration: ClassVar[bool]
    packages: ClassVar[tuple[str, ...]]  # modules that loading imports beside those of torch and transformers
    # What brings these modules, by the names of package indexes: records keep their versions. It is read from the text
    # of the class, since importing it may take seconds: a tuple of string literals, not inherited by subclasses.
    distributions: ClassVar[tuple[str, ...]]

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """JSON that tells these weights from others: artifacts made from them depend on it."""
        ...

    def check(self, hw: Hardware) -> None:
        """Raise Unsupported where the machine or installation lacks what making them needs; nothing is loaded."""
        ...

    def load(self, request: LoadRequest) -> Any:
        """Return a `transformers` causal language model in inference mode. Unsupported for what cannot be made."""
        ...


class GraphWeights(Weights, Protocol):
    """Weights of the form `onnx`: `load` returns the dense module, whose exported graph is packed afterwards."""

    packers: ClassVar[tuple[str, ...]]  # modules that packing imports beside `packages`

    def pack(self, dense: Path, folder: Path) -> None:
        """Write the packed form of the graph `model.onnx` in the folder `dense` into `folder`, by the same name."""
        ...


class Placement(Protocol):
    """Where the parts of a loaded module lie. A class that states no `is_whole` is taken for one that moves some."""

    packages: ClassVar[tuple[str, ...]]  # modules that placing imports
    distributions: ClassVar[tuple[str, ...]]  # as of `Weights`
    is_whole: ClassVar[bool]  # whether all weights lie on the device that computes
    weight_forms: ClassVar[frozenset[str]]  # forms of `Weights` that it can move

    def check(self, hw: Hardware) -> None:
        """Raise Unsupported where the machine or installation cannot place anything so; nothing is loaded."""
        ...

    def place(self, module: Any, hw: Hardware) -> Any:
        """Return the module, ready to run. Unsupported when it cannot lie so."""
        ...


class Cache(Protocol):
    """What a runtime remembers of its rows. Opaque but for these: lengths, repeat or select rows, rewind, replace."""

    @property
    def lengths(self) -> list[int]:
        """Tokens held by each row."""
        ...

    def select(self, rows: Sequence[int]) -> Cache:
        """Return a cache of the given rows, in that order; a row may be named several times. The source stays valid."""
        ...

    def rewind(self, lengths: Sequence[int]) -> None:
        """Forget all but the first `lengths[b]` tokens of row b, in place. ValueError when a row holds fewer."""
        ...

    def replace(self, rows: Sequence[int], source: Any) -> None:
        """Put row i of `source`, a cache of the same runtime, in the place of row `rows[i]`."""
        ...


@dataclass(frozen=True)
class Outputs:
    """What a forward was asked for."""

    logits_BKV: torch.Tensor  # float32, on the runtime's device


class Runtime(ABC):
    """A way to execute a model. `load` comes first, `close` last and any number of times.

    As a context manager it closes itself at the end of the block: `with make_runtime(config) as runtime:`.
    """

    weight_forms: ClassVar[frozenset[str]] = frozenset({"dense"})  # forms of `Weights` that it can take
    places_modules: ClassVar[bool] = False  # whether its constructor takes a `placement`
    distributions: ClassVar[tuple[str, ...]] = ()  # as of `Weights`

    def check(self, hw: Hardware) -> None:  # noqa: B027  # nothing is needed unless an engine says so
        """Raise Unsupported where packages, a GPU, a compiler or whatever else the runtime needs are missing.

        Asked before anything else is done for a cell; it loads, exports and builds nothing.
        """

    @abstractmethod
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        """Load or build, each stage under `phase(name)`. Unsupported when the machine or installation cannot.

        What a package costs to import goes under `import`, so that it can be told from what a model costs to load.
        """

    @abstractmethod
    def new_cache(self, rows: int, capacity: int) -> Cache:
        """Return an empty cache in which each row can hold `capacity` tokens, padding included."""

    @abstractmethod
    def forward(
        self,
        ids_BT: torch.Tensor,
        lengths: Sequence[int],
        cache: Any = None,  # one that this runtime made
        at_BK: torch.Tensor | None = None,
        *,
        outputs: frozenset[str] = LOGITS,
    ) -> Outputs:
        """Run the new tokens of each row behind what its cache holds; the cache grows by `lengths`, in place.

        Rows are padded on the right: of row b the first `lengths[b]` ids count. `at_BK` names the new tokens (indices
        into T) whose outputs are returned; None: the last real one of each row (K = 1). Without a cache nothing stays.
        `outputs` names what is returned. ValueError for what `Traits.outputs` does not name (`check_outputs`), and
        where a row of the cache has too few slots.
        """

    def branch(self, cache: Any, rows: int, capacity: int) -> Cache:
        """Return a cache of rows that go on from row 0 of `cache` and read it in place: nothing is copied.

        Each row can hold `capacity` tokens of its own (0: one forward, of which nothing is kept). `lengths` count those
        of the shared row too, below which a row cannot be rewound. `cache` must not change meanwhile. Only where
        `Traits.shares_prefix`.
        """
        raise NotImplementedError

    @abstractmethod
    def synchronize(self) -> None:
        """Return when all work that was asked for is done."""

    def counters(self) -> dict[str, int]:
        """Return exact counts since loading: compiled graphs, recompiles, graph breaks, fallback nodes."""
        return {}

    @abstractmethod
    def close(self) -> None:
        """Free everything. Closing twice is allowed, and closing what was never loaded."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
