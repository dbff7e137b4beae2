"""What a benchmark is: one file in this folder, or in another package, that says everything about it.

A file defines a subclass of `Scenario` (a load of made-up prompts, of which time or memory is measured) or of
`QualityTask` (data whose answers are scored), and binds an instance to `TASK`. Its options and their comments are in
`conf/benchmark/NAME.yaml`. Files are read by every command: torch is imported where it is used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.records.metric import Metric, hidden, number, quotient, with_bound
from runtime_matrix.experiments.records.schema import Entry

if TYPE_CHECKING:
    from runtime_matrix.experiments.config.models import ModelFacts
    from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry, ReferenceBench

BUNDLED_DATA = Path(__file__).parents[1] / "bundled" / "data"
C = TypeVar("C")  # the dataclass of a benchmark's options
Texts = tuple[str, ...]  # of one test item, such as a passage and a question


@dataclass(frozen=True)
class Shape:
    """A load: rows at once, tokens of their prompts, and new tokens."""

    batch: int
    prompt_tokens: int
    new_tokens: int

    @property
    def name(self) -> str:
        return f"b{self.batch}-p{self.prompt_tokens}-n{self.new_tokens}"


class Task(ABC, Generic[C]):
    """A benchmark. `version` is raised when what it asks, cuts or scores changes: versions are never compared."""

    name: ClassVar[str]  # of its preset, its entries and its files
    title: ClassVar[str]  # in sentences and filters
    data: ClassVar[str]  # in the table of docs/benchmarks.md: what it takes
    measures: ClassVar[str]  # and what it measures
    version: ClassVar[int] = 1
    position: ClassVar[int] = 100  # among benchmarks, smallest first: in the matrix and its filters
    first: ClassVar[bool] = False  # runs before the others, which may leave memory behind
    uses_hardware_peak: ClassVar[bool] = False  # figures are shares of what the machine does at most
    temporary_files: ClassVar[tuple[str, ...]] = ()  # in the cell's folder, removed when it has ended
    is_check: ClassVar[bool] = False  # run by `agreement.enabled`, and not chosen as a benchmark
    Config: ClassVar[type[Any]]
    metrics: ClassVar[tuple[Metric, ...]] = ()

    def check(self, config: C) -> None:  # most options need no more than their types
        """Raise UserError for options that contradict each other."""

    def check_model(self, config: C, facts: ModelFacts) -> None:
        """Raise UserError for options that the model cannot serve, such as texts longer than its context."""

    def check_data(self, config: C) -> None:
        """Raise UserError for data that cannot be read. Only asked for models with a tokenizer."""

    def grid(self, config: C) -> Sequence[str]:
        """Return the names of the grid points, each of which runs on its own. The first one fills the matrix."""
        return ("",)

    @abstractmethod
    def run(self, bench: Bench, entry: OpenEntry, config: C, point: str) -> None:
        """Measure one grid point and write figures, samples and items into `entry`."""

    def write_reference(self, bench: ReferenceBench, config: C) -> None:
        """Leave what `run` needs of the reference, whose runtime is loaded, in the cell's folder."""

    def write_reference_in_own_dtype(self, bench: ReferenceBench) -> None:
        """Leave what `run` needs of the reference in the cell's own dtype, where that is another."""

    def rows(self, config: C) -> int:
        """Return how many rows are asked for at once; 0 where that follows from budgets."""
        return 0

    def with_token_budget(self, config: C, tokens: int) -> C:
        """Return the options with this budget for what is batched (`batch=auto`)."""
        return config

    def further_keys(self, entry: Entry) -> Sequence[str]:
        """Return the row's keys of what only some configurations measure, such as pass@10."""
        return ()

    def further(self, key: str) -> Metric | None:
        """Return the metric of such a key; None for any other."""
        return None


class Scenario(Task[C]):
    """A load of made-up prompts, of which time or memory is measured."""

    times_rounds: ClassVar[bool] = True  # by `bench.rounds`; otherwise pytest-benchmark times the whole run

    @abstractmethod
    def shapes(self, config: C) -> Sequence[Shape]:
        """Return the loads, the largest of each kind included."""

    @override
    def check_model(self, config: C, facts: ModelFacts) -> None:
        limit = facts.max_length
        for shape in self.shapes(config):
            if limit is not None and shape.prompt_tokens + shape.new_tokens > limit:
                raise UserError(
                    f"benchmark.{self.name}: {shape.prompt_tokens} prompt + {shape.new_tokens} new tokens exceed the "
                    f"model's context of {limit}: lower benchmark.{self.name}.prompt_tokens or new_tokens"
                )


@dataclass(frozen=True)
class Score:
    """How the answers of two cells are compared, item by item, and what the row's figure is called."""

    metric: str  # key of the row
    prefix: str  # of keys that are derived from the comparison
    noun: str  # in sentences: "keeps 99 % of the reference's NOUN"
    item_field: str = "is_right"  # of an item: what its answer is worth, from 0 to 1
    scale: float = 1.0  # the row's figure is the items' mean times this
    kind: Literal["share", "perplexity"] = "share"  # perplexity: items are windows with `logprob` and `tokens`
    is_discrete: bool = False  # answers are right or wrong, and may flip
    has_texts: bool = False  # items hold generated texts


class QualityTask(Task[C]):
    """Data whose answers are scored, each item on its own line of a file, so that cells can be compared by item."""

    score: ClassVar[Score | None] = None
    bundled: ClassVar[str] = ""  # the file or folder of the bundled data

    def path(self, config: Any) -> Path:
        """Return where the data lies: the user's own, or the bundled one."""
        return BUNDLED_DATA / self.bundled if config.data == "bundled" else Path(config.data).expanduser()

    def texts(self, config: C) -> Mapping[str, Sequence[Texts]]:
        """Return the test items as texts, by name of a set, to be looked for in what the model has seen."""
        return {}


def percent_of_reference(score: Score, title: str, rank: int = 6) -> Metric:
    """Return the metric of a score as a percentage of the reference's."""
    about = f"{title[:1].upper()}{title[1:]} as a percentage of the reference's."
    key = f"{score.metric}_percent_of_reference"
    return Metric(key=key, title=f"{title}, % of reference's", about=about, rank=rank, display=number("{:.2f}"))


def flips(score: Score, title: str, rank: int = 8) -> Metric:
    """Return the metric of answers that turned, with the bound that so many items leave open."""
    about = "Answers that turned right to wrong or back, with the bound that so many items leave open."
    key = f"{score.prefix}_flips_ratio"
    return Metric(key=key, title=title, group="agreement", about=about, rank=rank, display=with_bound())


def same_texts(score: Score, title: str, of: str) -> Metric:
    """Return the metric of generated texts that are the reference's."""
    key = f"{score.prefix}_output_match_rate"
    about = f"The same, of {of} alone."
    return Metric(key=key, title=title, group="agreement", about=about, display=number("{:.1f} %", 100))


def rows_per_forward(prefix: str) -> Metric:
    """Return the metric of the batch sizes that were really reached: rows per forward, of texts per step."""

    def read(entry: Entry) -> float | None:
        texts = quotient("step_rows", "steps")(entry)
        return texts if texts is not None else quotient("forward_rows", "forwards")(entry)

    return hidden(f"{prefix}_rows_per_forward", read)
