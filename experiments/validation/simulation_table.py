"""The table of simulated figures: before → now, in bold if the target is missed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from typing_extensions import override


@dataclass(frozen=True)
class Figure:
    """A share in percent with its target: at most, or at least. `before` None: not simulated."""

    before: float | None
    now: float
    most: float | None = None
    least: float | None = None

    @override
    def __str__(self) -> str:
        is_met = self.now <= (self.most or math.inf) and self.now >= (self.least or -math.inf)
        now = f"{self.now:.2f}" if is_met else f"**{self.now:.2f}**"
        return now if self.before is None else f"{self.before:.2f} → {now}"


def chance(draws: int) -> float:
    """Return three standard errors of a simulated share of 0.7 %, in percent."""
    return 100 * 3 * math.sqrt(0.007 / draws)


def header(*names: str) -> Iterator[str]:
    """Yield the two header lines of a Markdown table."""
    yield row(*names)
    yield "|" + " --- |" * len(names)


def row(*cells: object) -> str:
    """Return one line of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"
