"""What comparing with other tools finds: what each script prints, and what is kept of all of it.

Imports nothing: `harness.py` runs where a peer is installed, and few of our packages.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Figures = dict[str, list[float]]  # by contender, one for each turn


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where all of it was measured, when it was begun last."""

    processor: str | None
    cores: int | None
    python: str | None
    versions: dict[str, str | None]
    commit: str | None
    date: str
    load_average: list[float] | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """When something was measured, of which sources, and how busy the machine was."""

    date: str
    commit: str | None
    threads: int
    load: float  # over 5 minutes


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What both did."""

    work: str  # scoring or generation
    vocabulary: int
    subjects: int
    questions: int  # a subject
    style: str
    batch_size: int
    threads: int
    runtime: str
    options: str  # JSON


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What the same requests took."""

    asked: Asked
    cpu_s: Figures
    wall_s: Figures
    cpu_ratios: list[float]  # theirs over ours
    items: int


@dataclass(frozen=True, kw_only=True)
class Scored(Compared):
    max_logprob_difference: float  # nats
    changed_predictions: int


@dataclass(frozen=True, kw_only=True)
class Generated(Compared):
    tokens: int
    different_texts: int


@dataclass(frozen=True, kw_only=True)
class Executed:
    """What a program took to be judged."""

    cpu_s: Figures
    per_s: Figures  # programs


@dataclass(frozen=True, kw_only=True)
class Timed:
    """How fast tokens were read and written."""

    prefill_tokens_per_s: Figures
    tokens_per_s: Figures
    cpu_s: Figures  # of the whole run


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A piece of work."""

    name: str
    goal: float  # ratio that we want
    measured: Measured


@dataclass(frozen=True, kw_only=True)
class Scoring(Scored, Piece):
    """Log-likelihoods of choices."""


@dataclass(frozen=True, kw_only=True)
class Generation(Generated, Piece):
    """Greedy texts."""


@dataclass(frozen=True, kw_only=True)
class Execution(Executed):
    measured: Measured


@dataclass(frozen=True, kw_only=True)
class Timing(Timed):
    measured: Measured


@dataclass(kw_only=True)
class Results:
    """All that was measured on one machine; it grows with each piece of work."""

    machine: Machine
    scoring: list[Scoring] = field(default_factory=list)
    generation: list[Generation] = field(default_factory=list)
    execution: Execution | None = None
    timing: Timing | None = None
