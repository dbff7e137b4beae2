"""The lies that the audit must find: runtimes that cheat, and a harness that counts tokens it never received."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from runtime_matrix.experiments.records.audit import CheckName
from runtime_matrix.experiments.records.comparison import Launch

_MODULE = "tests.experiments.cheats"


@dataclass(frozen=True)
class Lie:
    """A lie, and the check that must find it. `engine`: the class in `tests/experiments/cheats.py`."""

    name: str
    what: str
    found_by: CheckName
    engine: str | None = None
    alter: Callable[[Launch], Launch] = lambda launch: launch

    @property
    def words(self) -> list[str]:
        """Return the overrides that choose the runtime."""
        if self.engine is None:
            return ["runtime=eager"]
        return ["runtime=custom", f"runtime.engine.target={_MODULE}:{self.engine}", f"runtime.name={self.name}"]


def _missing_eighth(launch: Launch) -> Launch:
    """Return the launch with an eighth of its tokens unaccounted for, while all of its steps are counted."""
    assert launch.tokens is not None
    return replace(launch, tokens=replace(launch.tokens, tokens=launch.tokens.tokens * 7 // 8))


def _cheat(engine: str, what: str, found_by: CheckName) -> Lie:
    return Lie(engine, what, found_by, engine)


LIES = (
    _cheat("Garbage", "zeros where it is timed", "timed_answers"),
    _cheat("Defeat", "computes nothing at one thread", "timed_answers"),
    _cheat("Constant", "emits the same token in timed rounds", "timed_answers"),
    _cheat("EarlyEnd", "ends its texts early; every step is counted", "timed_answers"),
    _cheat("EightBits", "times weights of 8 bits, scores float32", "timed_answers"),
    _cheat("ThreeBits", "times weights of 3 bits, scores float32", "timed_answers"),
    _cheat("Memo", "remembers its outputs by all tokens so far", "repeated_prompts"),
    _cheat("KnownPrefix", "skips the prefill of a prompt that it has seen", "repeated_prompts"),
    Lie("Miscounted", "counts steps whose tokens were not produced", "token_counts", alter=_missing_eighth),
    _cheat("Sorted", "sorts the rows of scored batches and never puts them back", "row_order"),
    _cheat("ByPlace", "its outputs depend on the place in the batch; top tokens do not", "row_order"),
    _cheat("MoreThreads", "twice the threads", "threads"),
    _cheat("HalfThreads", "half of the threads", "threads"),
    _cheat("Helper", "a thread of its own beside those it was given", "threads"),
    _cheat("Between", "computes in a thread whenever the clock is stopped", "after_clock"),
    _cheat("Lazy", "leaves a part of each call for later", "after_clock"),
    _cheat("AfterTheLast", "works once it has not been called for 0.1 s", "after_clock"),
    _cheat("Orphan", "computes in a process whose parent has ended", "after_clock"),
)
