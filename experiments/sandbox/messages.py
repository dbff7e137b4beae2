"""What the pool, its graders, their zygotes and the programs tell each other, each message one JSON object.

For type checkers: nothing of it is imported in the clean interpreter.
"""

from __future__ import annotations

from typing import TypedDict


class Places(TypedDict):
    """The paths that an interpreter needs."""

    library: list[str]  # a copy of Python's own modules; empty: those of the interpreter
    readable: list[str]
    listable: list[str]
    shown: list[str]  # in a root of its own
    hidden: list[str]


class Setup(Places):
    """From the pool to a grader: how to confine itself."""

    scratch: str
    base: str  # where a root of its own is mounted
    without: list[str]  # layers
    memory_mib: int  # of the grader


class Order(TypedDict):
    """From a grader to its zygote: begin this program."""

    program: str
    limits: dict[str, float]  # `layers.Limits`


class Job(Order):
    """From the pool to a grader: run these checks against this program."""

    checks: list[dict[str, str]]  # `checks.Check`
    entry_point: str


class Ended(TypedDict):
    """From a zygote to its grader: how a program ended."""

    code: int  # negative: the signal
    cpu_s: float
    is_clean: bool  # nothing is left of it


class Reply(TypedDict):
    """From a grader to the pool: a verdict."""

    status: str
    reason: str
    cpu_s: float
    wall_s: float
    is_clean: bool
