"""The results of comparisons with other tools: the output of each script, and the file of all results.

Standard library only. `harness.py` runs in a peer's environment, which has only the packages in `environments.PINS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Figures = dict[str, list[float]]  # by contender, one per turn


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine of all results, at the start of the last run."""

    processor: str | None
    cores: int | None
    python: str | None
    versions: dict[str, str | None]
    commit: str | None
    date: str
    load_average: list[float] | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The circumstances of a measurement."""

    date: str
    commit: str | None
    threads: int
    load: float  # over 5 minutes


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The arguments of a comparison, the same for both sides."""

    work: str  # scoring or generation
    vocabulary: int
    subjects: int
    questions: int  # per subject
    style: str
    batch_size: int | str
    threads: int
    runtime: str
    options: str  # JSON
    backend: str = "hf"  # of lm-evaluation-harness
    through: str = "core"  # or adapter: ours are asked by lm-eval's own requests


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The times of both sides for the same requests."""

    asked: Asked
    cpu_s: Figures
    wall_s: Figures
    cpu_ratios: list[float]  # theirs over ours
    items: int


@dataclass(frozen=True, kw_only=True)
class Scored(Compared):
    """A comparison of log-likelihoods."""

    max_logprob_difference: float  # nats
    changed_predictions: int


@dataclass(frozen=True, kw_only=True)
class Generated(Compared):
    """A comparison of generated texts."""

    tokens: int
    different_texts: int


@dataclass(frozen=True, kw_only=True)
class Executed:
    """The cost of judging a program."""

    cpu_s: Figures
    per_s: Figures  # programs


@dataclass(frozen=True, kw_only=True)
class Timed:
    """The speed of prefill and decoding."""

    prefill_tokens_per_s: Figures
    tokens_per_s: Figures
    cpu_s: Figures  # of the whole run


@dataclass(frozen=True, kw_only=True)
class ServedBy:
    """What each load generator reports of the same server, and what the server counted, one object per turn."""

    concurrency: int
    requests: int
    reports: dict[str, list[dict[str, float | None]]]  # by tool


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A piece of work with its goal."""

    name: str
    goal: float  # least ratio
    measured: Measured


@dataclass(frozen=True, kw_only=True)
class Scoring(Scored, Piece):
    """Log-likelihoods of choices."""


@dataclass(frozen=True, kw_only=True)
class Generation(Generated, Piece):
    """Greedy texts."""


@dataclass(frozen=True, kw_only=True)
class Execution(Executed):
    """The cost of judging a program, with its circumstances."""

    measured: Measured


@dataclass(frozen=True, kw_only=True)
class Timing(Timed):
    """The speed of prefill and decoding, with its circumstances."""

    measured: Measured


@dataclass(frozen=True, kw_only=True)
class Serving(ServedBy):
    """The reports of load generators, with their circumstances."""

    measured: Measured


@dataclass(kw_only=True)
class Results:
    """All results of one machine; each piece of work is added when it ends."""

    machine: Machine
    scoring: list[Scoring] = field(default_factory=list)
    generation: list[Generation] = field(default_factory=list)
    execution: Execution | None = None
    timing: Timing | None = None
    serving: Serving | None = None
