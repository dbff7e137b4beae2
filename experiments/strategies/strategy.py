"""The contract of a strategy: one file, in this folder or in another package, that declares all of it.

The file defines a subclass of `Strategy` and binds an instance to `STRATEGY`; its options are documented in
`conf/strategy/NAME.yaml`. `solve` is a generator: it yields requests and receives their results (`generate`,
`run_tests`, `execute`, `likelihoods`), so that the requests of all problems can be batched. A strategy knows neither
the runtime nor the hidden tests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.sandbox.outputs import Outputs
from runtime_matrix.experiments.strategies.examples import Example

T = TypeVar("T")
C = TypeVar("C", bound="StrategyConfig")  # the dataclass of a strategy's options


@dataclass(frozen=True, kw_only=True)
class StrategyConfig:
    """Options that every strategy has: plain sampling, which its pass@1 is compared with at the same tokens."""

    plain_samples: int = least(2)  # per problem
    plain_temperature: float = least(0.01)


@dataclass(frozen=True)
class Visible:
    """What a strategy may know of a problem."""

    id: str
    prompt: str  # what the model continues in a plain request
    head: str  # a program is this text followed by a completion
    entry_point: str
    examples: tuple[Example, ...]  # calls with results that the prompt shows: the visible tests
    stop: tuple[str, ...]  # strings that end a completion


@dataclass(frozen=True)
class Solved:
    """A problem with its solution, as an example for a prompt."""

    id: str
    prompt: str
    solution: str


@dataclass(frozen=True)
class Text:
    """A generated text."""

    text: str
    new_tokens: int


@dataclass(frozen=True)
class Checked:
    """The result of running tests on a program, up to the first failure."""

    passed: bool
    status: str  # "passed", "failed", "crash" or "timeout"
    reason: str  # the error in one line; empty if all passed


@dataclass(frozen=True)
class Generate:
    """Requests `samples` continuations of a prompt."""

    prompt: str
    samples: int
    temperature: float
    stop: tuple[str, ...]
    turn: str  # part of the seeds: samples of another turn are other texts
    max_new_tokens: int | None  # None: the benchmark's


@dataclass(frozen=True)
class RunTests:
    """Requests to run tests, a list of assert statements, on a completion."""

    text: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Execute:
    """Requests the outputs of a completion's entry point for each of the argument lists."""

    text: str
    inputs: tuple[tuple[object, ...], ...]


@dataclass(frozen=True)
class Likelihood:
    """Requests the log-probability of a text after a prompt."""

    prompt: str
    text: str


@dataclass(frozen=True)
class Hidden:
    """Requests the verdict of the hidden tests. Only `feedback=hidden` uses it, and the record says so."""

    text: str


Request: TypeAlias = Generate | RunTests | Execute | Likelihood | Hidden
Steps: TypeAlias = Generator[Sequence[Request], Sequence[Any], T]  # requests out, one result per request in


@dataclass(frozen=True)
class Answer:
    """A strategy's answer to a problem. Only `text` counts as the answer; the rest is judged for the report."""

    text: str
    candidates: tuple[str, ...] = ()  # the completions that it chose from: any of them passes for an oracle
    stages: Mapping[str, str] = field(default_factory=dict)  # by name: what the answer would have been at that point
    tests: tuple[str, ...] = ()  # generated asserts; the report says how many the reference passes
    figures: Mapping[str, float] = field(default_factory=dict)  # averaged over problems


class Strategy(ABC, Generic[C]):
    """A way to answer programming problems with options `C`."""

    name: ClassVar[str]
    about: ClassVar[str]  # one sentence with its source, for tables
    Config: ClassVar[type[Any]] = StrategyConfig
    needs_examples: ClassVar[bool] = False  # problems without visible tests are answered greedily, and counted
    needs_python: ClassVar[bool] = True  # runs functions or tests of its own, or reads code

    def check(self, config: C) -> None:
        """Raise UserError for options that contradict each other."""

    def prepare(self, config: C, problems: Sequence[Visible]) -> None:
        """Raise UserError for data that is missing or contains a problem's answer. Called before anything is loaded."""

    def needs_visible_tests(self, config: C) -> bool:
        """Return whether the strategy does nothing for problems without visible tests."""
        return self.needs_examples

    def leaks(self, config: C) -> str | None:
        """Return why the answers cannot be compared with others': they know hidden tests; None if they do not."""
        return None

    @abstractmethod
    def solve(self, problem: Visible, config: C, seed: int) -> Steps[Answer]:
        """Yield requests, receive their results, and return the answer. `seed` is the problem's own."""


def generate(
    problem: Visible,
    prompt: str | None = None,
    *,
    samples: int = 1,
    temperature: float = 0.0,
    stop: tuple[str, ...] | None = None,
    turn: str = "",
    max_new_tokens: int | None = None,
) -> Steps[list[Text]]:
    """Return continuations of a prompt, by default the problem's own. Temperature 0 is greedy."""
    request = Generate(
        problem.prompt if prompt is None else prompt,
        samples,
        temperature,
        problem.stop if stop is None else stop,
        turn,
        max_new_tokens,
    )
    (texts,) = yield (request,)
    return list(texts)


def run_tests(texts: Sequence[str], tests: Sequence[str]) -> Steps[list[Checked]]:
    """Return the result of the tests for each completion."""
    if not texts:
        return []
    return list((yield [RunTests(text, tuple(tests)) for text in texts]))


def execute(texts: Sequence[str], inputs: Sequence[tuple[object, ...]]) -> Steps[list[Outputs]]:
    """Return the outputs of each completion's entry point for all inputs."""
    if not texts:
        return []
    return list((yield [Execute(text, tuple(inputs)) for text in texts]))


def likelihoods(prompt: str, texts: Sequence[str]) -> Steps[list[float]]:
    """Return the mean log-probability per token of each text after the prompt, in nats."""
    if not texts:
        return []
    return list((yield [Likelihood(prompt, text) for text in texts]))


def judge_hidden(text: str) -> Steps[Checked]:
    """Return the verdict of the hidden tests: a strategy that calls this must say so in `leaks`."""
    (checked,) = yield (Hidden(text),)
    assert isinstance(checked, Checked)
    return checked
