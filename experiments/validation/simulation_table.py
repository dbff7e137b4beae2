"""How simulated figures are shown: what was drawn before and now beside the target, those that miss it in bold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from typing_extensions import override


@dataclass(frozen=True)
class Figure:
    """A share in percent beside what it must be at most, or at least."""

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
    """Return by how many percent a share of 0.7 % may lie above it by chance, three standard errors."""
    return 100 * 3 * math.sqrt(0.007 / draws)


def header(*names: str) -> Iterator[str]:
    yield row(*names)
    yield "|" + " --- |" * len(names)


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
