"""The messages between the pool, its graders, their zygotes and the programs; each is one JSON object.

For type checkers only: the clean interpreter does not import this module.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class Places(TypedDict):
    """The paths that an interpreter needs."""

    library: list[str]  # paths of a copy of Python's own modules; empty: the interpreter's
    packages: str  # folder of the third-party packages that programs may import; "" without any
    readable: list[str]
    listable: list[str]
    writable: list[str]  # besides the scratch folder
    executable: list[str]
    shown: list[str]  # paths that exist in the private root
    hidden: list[str]  # folders below them that appear empty


class Setup(Places):
    """From the pool to a grader: how the grader confines itself."""

    scratch: str
    base: str  # mount point of the private root
    without: list[str]  # layers to leave out
    memory_mib: int  # limit of the grader itself
    imported: list[str]  # packages that the grader imports before it forks


class InterpreterSetup(Setup):
    """From the pool to an interpreter runner: how programs of another language than Python are run."""

    command: list[str]  # of the interpreter; the program's file follows
    file: str  # name of the program's file
    last_line: str  # of a program; writes {token} to the descriptor 3
    environment: dict[str, str]
    calls: str  # further system calls, as in `seccomp.py`
    memory: list[tuple[int, int]]  # kind of limit, value
    can_fork: bool


class CasesMessage(TypedDict):
    """Inputs with the outputs that are right; `cases.Cases` has the fields."""

    inputs: list[str]
    expected: list[tuple[str, str]]
    atol: float
    oracle: str


class Order(TypedDict):
    """From a grader to its zygote: start this program."""

    program: str
    limits: dict[str, float]  # `layers.Limits`


class Job(Order):
    """From the pool to a grader: run these checks against this program, and return its outputs for these inputs."""

    checks: list[dict[str, str]]  # `checks.Check`
    entry_point: str
    cases: NotRequired[CasesMessage | None]  # run after the checks
    early_stop: bool  # the first check that fails is the last
    inputs: NotRequired[list[str]]  # lists of arguments, as `values.dumps` writes them


class Ended(TypedDict):
    """From a zygote to its grader: how a program ended."""

    code: int  # exit code; negative: the signal
    cpu_s: float
    is_clean: bool  # no file of it is left


class Reply(TypedDict):
    """From a grader to the pool: a verdict, and the outputs for the job's inputs that the program answered."""

    status: str
    reason: str
    cpu_s: float
    wall_s: float
    checks_passed: int
    is_clean: bool
    right: NotRequired[int | None]  # of the cases, before the first one that is not; None if none ran
    outputs: list[tuple[Literal["value", "digest", "error"], str]]  # `outputs.Output`
