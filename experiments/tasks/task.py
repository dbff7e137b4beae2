"""The contract of a benchmark: one file, in this folder or in another package, that declares all of it.

The file defines a subclass of `Scenario` (random prompts; time or memory is measured) or of `QualityTask` (data whose
answers are scored) and binds an instance to `TASK`. Its options are documented in `conf/benchmark/NAME.yaml`. Every
command imports these files, so torch is imported inside methods only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from typing_extensions import override

from runtime_matrix.experiments.config import adapters
from runtime_matrix.experiments.config.adapters import bundled_adapters
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.records.metric import Metric, hidden, number, quotient, with_bound
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.tasks.score_kinds import SHARE, ScoreKind

if TYPE_CHECKING:
    from runtime_matrix.experiments.config.models import ModelFacts
    from runtime_matrix.experiments.config.schema import SandboxConfig
    from runtime_matrix.experiments.strategies.registry import StrategyChoice
    from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry, ReferenceBench

BUNDLED_DATA = Path(__file__).parents[1] / "bundled" / "data"
C = TypeVar("C")  # the dataclass of a benchmark's options
Texts = tuple[str, ...]  # the texts of one test item, such as a passage and a question


@dataclass(frozen=True)
class Shape:
    """The size of a load: batch size, tokens per prompt and new tokens per row."""

    batch: int
    prompt_tokens: int
    new_tokens: int

    @property
    def name(self) -> str:
        """Return the name of the grid point, for example `b8-p64-n32`."""
        return f"b{self.batch}-p{self.prompt_tokens}-n{self.new_tokens}"


class Task(ABC, Generic[C]):
    """A benchmark with options `C`. Raise `version` when prompts, truncation or scoring change.

    Results of different versions are never compared.
    """

    name: ClassVar[str]  # names its preset, entries and files
    title: ClassVar[str]  # used in sentences and filters
    data: ClassVar[str]  # column "data it takes" of the table in docs/benchmarks.md
    measures: ClassVar[str]  # column "measures" of that table
    version: ClassVar[int] = 1
    position: ClassVar[int] = 100  # order in the matrix and its filters, smallest first
    first: ClassVar[bool] = False  # runs before the others, which may leave memory allocated
    uses_hardware_peak: ClassVar[bool] = False  # some figures are shares of the measured hardware peak
    temporary_files: ClassVar[tuple[str, ...]] = ()  # in the cell's folder, removed when the cell ends
    takes_strategies: ClassVar[bool] = False  # `run` follows `bench.strategy`
    deals_items: ClassVar[bool] = True  # False: an item's requests depend on other items, so it is never sharded
    is_check: ClassVar[bool] = False  # enabled by `agreement.enabled` instead of `benchmark=[…]`
    Config: ClassVar[type[Any]]
    metrics: ClassVar[tuple[Metric, ...]] = ()

    def check(self, config: C) -> None:
        """Raise UserError for options that contradict each other."""

    def check_model(self, config: C, facts: ModelFacts) -> None:
        """Raise UserError for options that the model cannot serve, such as windows longer than its context."""

    def check_data(self, config: C) -> None:
        """Raise UserError for data that cannot be read. Called only for models with a tokenizer."""

    def check_strategy(self, config: C, choice: StrategyChoice) -> None:
        """Raise UserError for options or data that the chosen strategy cannot use. Called if `takes_strategies`."""

    def check_sandbox(self, config: C, sandbox: SandboxConfig) -> None:
        """Raise UserError for data whose programs need what the sandbox lacks. Called after `check_data`."""

    def grid(self, config: C) -> Sequence[str]:
        """Return the names of the grid points. Each runs separately; the first one fills the matrix."""
        return ("",)

    @abstractmethod
    def run(self, bench: Bench, entry: OpenEntry, config: C, point: str) -> None:
        """Measure one grid point and write figures, samples and items into `entry`."""

    def respond(self, bench: Bench, entry: OpenEntry, config: C, point: str) -> None:
        """Compute the responses of a shard's part of the items; called in shards instead of `run`.

        Of the figures, only those of the work done are used. Override it if `run` fails for a few items.
        """
        self.run(bench, entry, config, point)

    def write_reference(self, bench: ReferenceBench, config: C) -> None:
        """Write what `run` needs from the loaded reference into the cell's folder."""

    def write_reference_in_own_dtype(self, bench: ReferenceBench) -> None:
        """Write what `run` needs from the reference in the cell's dtype; called only where the dtypes differ."""

    def rows(self, config: C) -> int:
        """Return the largest batch size in rows; 0 where token budgets determine it."""
        return 0

    def with_token_budget(self, config: C, tokens: int) -> C:
        """Return the options with this token budget per batch (used by `batch=auto`)."""
        return config

    def further_keys(self, entry: Entry) -> Sequence[str]:
        """Return the row's keys that only some configurations measure, such as pass@10."""
        return ()

    def further(self, key: str) -> Metric | None:
        """Return the metric of a key of `further_keys`; None for any other key."""
        return None


class Scenario(Task[C]):
    """A load of random prompts whose time or memory is measured."""

    times_rounds: ClassVar[bool] = True  # `run` calls `bench.rounds`; otherwise pytest-benchmark times all of `run`

    @abstractmethod
    def shapes(self, config: C) -> Sequence[Shape]:
        """Return the loads; must include the longest prompt and the most new tokens."""

    def timed_new_tokens(self, entry: Entry) -> int:
        """Return the number of new tokens that `run` timed for this entry; 0 if it times none."""
        return 0

    @override
    def check_model(self, config: C, facts: ModelFacts) -> None:
        limit = facts.max_length
        for shape in self.shapes(config):
            if limit is not None and shape.prompt_tokens + shape.new_tokens > limit:
                raise UserError(
                    f"benchmark.{self.name}: {shape.prompt_tokens} prompt + {shape.new_tokens} new tokens exceed "
                    f"{facts.stated_length}: lower benchmark.{self.name}.prompt_tokens or new_tokens"
                )


@dataclass(frozen=True)
class Score:
    """How the answers of two cells are compared item by item, and the names of the figures."""

    metric: str  # key in the row
    prefix: str  # of the keys that the comparison adds
    noun: str  # used in sentences: "keeps 99 % of the reference's NOUN"
    item_field: str = "is_right"  # field of an item that holds its score
    scale: float = 1.0  # the row's figure is the items' mean times this factor
    kind: ScoreKind = SHARE
    is_discrete: bool = False  # answers are right or wrong, so they can flip
    has_texts: bool = False  # items hold generated texts


@dataclass(frozen=True)
class Rubric:
    """What a judge is given of an item: the names of the item's fields."""

    question: str = "prompt"
    answer: str = "text"
    references: str = "answers"  # right answers: a text or several
    is_right: str | None = "is_right"  # the benchmark's own verdict; None: it has none
    cluster: str | None = None  # items of one cluster are not independent


class QualityTask(Task[C]):
    """Data whose answers are scored. Each item is one line of a file, so that cells can be compared by item."""

    score: ClassVar[Score | None] = None
    rubric: ClassVar[Rubric | None] = None  # for benchmarks whose answers a judge can judge
    bundled: ClassVar[str] = ""  # the file or folder of the bundled data

    @override
    def check_model(self, config: C, facts: ModelFacts) -> None:
        new_tokens = getattr(config, "max_new_tokens", None)
        shortest = 1 if facts.bos_id is None else 2  # one token of a prompt
        if new_tokens is not None and facts.max_length is not None and new_tokens + shortest > facts.max_length:
            raise UserError(
                f"benchmark.{self.name}.max_new_tokens={new_tokens} leaves no room for a prompt within "
                f"{facts.stated_length}: lower it"
            )

    def path(self, config: Any) -> Path:
        """Return the path of the user's data, of the bundled data, or of that of a bundled adapter (bundled:NAME)."""
        if config.data == "bundled":
            return BUNDLED_DATA / self.bundled
        of_adapters, _, name = str(config.data).partition(":")
        if of_adapters != "bundled":
            return Path(config.data).expanduser()
        if name not in bundled_adapters():
            raise UserError(f"benchmark.{self.name}.data={config.data}{did_you_mean(name, bundled_adapters())}")
        folder = adapters.BUNDLED / name / "data"
        return folder / self.bundled if Path(self.bundled).suffix else folder

    def texts(self, config: C) -> Mapping[str, Sequence[Texts]]:
        """Return the texts of the test items by set name, to check their overlap with training and calibration text."""
        return {}

    def count(self, config: C) -> int | None:
        """Return the number of items; None if it is known only with a loaded tokenizer."""
        texts = self.texts(config)
        return len(texts[self.name]) if self.name in texts else None


def percent_of_reference(score: Score, title: str) -> Metric:
    """Return the metric for a score as a percentage of the reference's score."""
    about = f"{title[:1].upper()}{title[1:]} as a percentage of the reference's."
    key = f"{score.metric}_percent_of_reference"
    return Metric(key=key, title=f"{title}, % of reference's", about=about, rank=6, display=number("{:.2f}"))


def flips(score: Score, title: str, rank: int = 8) -> Metric:
    """Return the metric for the share of flipped answers, with its upper confidence bound."""
    about = "Share of answers that turned from right to wrong or back, with its upper confidence bound."
    key = f"{score.prefix}_flips_ratio"
    return Metric(key=key, title=title, group="agreement", about=about, rank=rank, display=with_bound())


def same_texts(score: Score, title: str, of: str) -> Metric:
    """Return the metric for the share of generated texts that equal the reference's."""
    key = f"{score.prefix}_output_match_rate"
    about = f"Share of {of} that equal the reference's."
    return Metric(key=key, title=title, group="agreement", about=about, display=number("{:.1f} %", 100))


def rows_per_forward(prefix: str) -> Metric:
    """Return the metric for the mean batch size reached: rows per decode step, or per forward pass for scoring."""

    def read(entry: Entry) -> float | None:
        per_step = quotient("step_rows", "steps")(entry)
        return per_step if per_step is not None else quotient("forward_rows", "forwards")(entry)

    return hidden(f"{prefix}_rows_per_forward", read)
