"""Interleaved runs of two programs, each in a fresh process.

Which program goes first alternates, so that a drift of the machine affects both alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msgspec import Struct

from runtime_matrix.experiments.programs.figure import Figure
from runtime_matrix.experiments.programs.program import Program, run
from runtime_matrix.experiments.statistics.paired import launch_log_ratio


@dataclass(frozen=True)
class Side:
    """One of the two programs. `prepare` runs before each of its timed runs, `rebuild` before a repetition."""

    program: Program
    prepare: Program | None = None
    rebuild: Program | None = None


class Turn(Struct, frozen=True, kw_only=True):
    """The values of one turn by figure: one per run of each program, pair by pair."""

    candidate: dict[str, list[float]]
    reference: dict[str, list[float]]

    def log_ratio(self, figure: str) -> float:
        """Return log(candidate / reference), the median over the pairs."""
        return launch_log_ratio(self.candidate[figure], self.reference[figure])

    def log_pairs(self, figure: str) -> list[tuple[float, float]]:
        """Return the logarithms of both values, pair by pair."""
        pairs = zip(self.candidate[figure], self.reference[figure], strict=True)
        return [(math.log(candidate), math.log(reference)) for candidate, reference in pairs]


@dataclass(frozen=True)
class Comparison:
    """Two programs and how they are run: `repeat` pairs of runs per turn, `warm_up` unmeasured ones at the start."""

    candidate: Side
    reference: Side
    figures: Sequence[Figure]
    repeat: int = 1
    warm_up: int = 1
    ignore_failure: bool = False

    def turns(self) -> Iterator[Turn]:
        """Yield turns without end. UserError if a program cannot be run or prints no number."""
        for _ in range(self.warm_up):
            self._pair(0)
        number = 0
        while True:
            pairs = [self._pair(number + index) for index in range(self.repeat)]
            number += self.repeat
            yield Turn(
                candidate={
                    figure.name: [candidate[place] for candidate, _ in pairs]
                    for place, figure in enumerate(self.figures)
                },
                reference={
                    figure.name: [reference[place] for _, reference in pairs]
                    for place, figure in enumerate(self.figures)
                },
            )

    def _pair(self, number: int) -> tuple[list[float], list[float]]:
        if number % 2:
            reference, candidate = self._values(self.reference), self._values(self.candidate)
        else:
            candidate, reference = self._values(self.candidate), self._values(self.reference)
        return candidate, reference

    def _values(self, side: Side) -> list[float]:
        if side.prepare is not None:
            run(side.prepare, wants_output=False)
        wants_output = any(figure.is_printed for figure in self.figures)
        finished = run(side.program, wants_output, self.ignore_failure)
        return [figure.of(side.program, finished) for figure in self.figures]

    def rebuild(self) -> bool:
        """Run the rebuild commands, equal ones once; return whether there was one."""
        commands = {side.rebuild for side in (self.reference, self.candidate)} - {None}
        for program in sorted(filter(None, commands), key=lambda program: str(program.directory)):
            run(program, wants_output=False)
        return bool(commands)
