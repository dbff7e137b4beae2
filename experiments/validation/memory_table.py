"""Coverage and width of intervals for peak memory, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A measured cell with its estimate. Sizes in bytes; None: not measured, or not estimated."""

    model: str
    is_judged: bool  # no constant was chosen on this model
    weights: int
    runtime: str
    dtype: str
    rows: int
    prompt_tokens: int
    new_tokens: int
    was_built: bool  # an artifact was built while loading
    status: str
    reason: str | None
    measured_bytes: float | None
    load_bytes: float | None
    low_bytes: int | None
    high_bytes: int | None

    @property
    def is_compared(self) -> bool:
        """Return whether there are both an estimate and a measurement."""
        return self.measured_bytes is not None and self.low_bytes is not None

    @property
    def is_held(self) -> bool:
        """Return whether the interval holds the measured peak."""
        assert self.measured_bytes is not None
        assert self.low_bytes is not None
        assert self.high_bytes is not None
        return self.low_bytes <= self.measured_bytes <= self.high_bytes

    @property
    def width_ratio(self) -> float:
        """Return half of the interval's width as a share of its middle."""
        assert self.low_bytes is not None
        assert self.high_bytes is not None
        return (self.high_bytes - self.low_bytes) / (self.high_bytes + self.low_bytes)


def coverage(cells: Sequence[Judged]) -> tuple[int, int]:
    """Return how many intervals hold the measured peak, and of how many."""
    compared = [cell for cell in cells if cell.is_compared]
    return sum(cell.is_held for cell in compared), len(compared)


def markdown(cells: Sequence[Judged], command: str, machine: str) -> str:
    """Return the summary and a line per cell."""
    lines = [f"Peak memory, estimated before loading and measured. {machine}. `{command}`.", ""]
    for title, is_judged in (("models on which constants were chosen", False), ("other models", True)):
        part = [cell for cell in cells if cell.is_judged is is_judged]
        held, total = coverage(part)
        if total:
            widest = max(cell.width_ratio for cell in part if cell.is_compared)
            lines.append(
                f"* {title}: {held} of {total} intervals hold the measured peak ({100 * held / total:.1f} %); "
                f"the widest is ± {100 * widest:.0f} %"
            )
    lines += ["", "| model | runtime | dtype | rows × prompt | built | measured MiB | estimated MiB | held |"]
    lines += ["| --- | --- | --- | --- | --- | ---: | ---: | --- |", *map(_line, cells)]
    return "\n".join(lines) + "\n"


def _line(cell: Judged) -> str:
    name = f"{cell.model} ({'judged' if cell.is_judged else 'tuned'})"
    size = f"{cell.rows} × {cell.prompt_tokens}"
    built = "yes" if cell.was_built else "no"
    measured = cell.status if cell.measured_bytes is None else f"{cell.measured_bytes / _MIB:,.0f}"
    if cell.low_bytes is None or cell.high_bytes is None:
        estimate, held = "unknown", ""
    else:
        estimate = f"{cell.low_bytes / _MIB:,.0f} to {cell.high_bytes / _MIB:,.0f}"
        held = ("yes" if cell.is_held else "**no**") if cell.is_compared else ""
    cells = (name, cell.runtime, cell.dtype, size, built, measured, estimate, held)
    return "| " + " | ".join(cells) + " |"
