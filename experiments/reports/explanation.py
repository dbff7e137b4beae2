"""The explanation of a cell as text: its causes, and its ladder as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from runtime_matrix.experiments.analysis.explanation import Explanation
from runtime_matrix.experiments.analysis.ladder import Ladder, Step
from runtime_matrix.experiments.records.metric import UNKNOWN
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.tasks.registry import scores

HEADER = ("change", "runtime", "KL nats", "added", "flips", "score", "decode speedup")


class ShownLadder(Struct, frozen=True, kw_only=True):
    """A ladder as texts, for the page."""

    header: Sequence[str]
    steps: Sequence[Sequence[str]]
    verdict: str


def shown(ladder: Ladder) -> ShownLadder:
    """Return the ladder as texts."""
    return ShownLadder(header=HEADER, steps=[step_texts(step) for step in ladder.steps], verdict=ladder.verdict)


def lines(row: Row, explained: Explanation) -> Iterator[str]:
    """Yield the lines of a cell's explanation."""
    yield f"{row.runtime}  {row.record_id}"
    yield from (f"  {cause.line}" for cause in explained.causes)
    if not explained.causes:
        yield "  neither slower nor larger than its reference beyond the intervals"
    if explained.problem:
        yield f"  {explained.problem}"
    if explained.ladder is not None:
        yield f"  loss: {explained.ladder.verdict}"


def ladder_table(ladder: Ladder) -> list[str]:
    """Return the ladder as aligned lines, one per step."""
    table = [HEADER, *(step_texts(step) for step in ladder.steps)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADER))]
    return [
        "  " + "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in table
    ]


def step_texts(step: Step) -> tuple[str, ...]:
    """Return the cells of a step's line, in the order of `HEADER`."""
    if step.record_id is None:
        return (step.change, step.runtime, "not measured", *[UNKNOWN] * 4)
    score = UNKNOWN
    if step.score is not None and step.score_difference is not None:
        digits = 1 if scores()[step.score].scale > 1 else 3
        value, low, high = (round(end, digits) + 0.0 for end in step.score_difference)  # without a negative zero
        score = f"{step.score} {value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
    speedup = f"{step.speedup[0]:.2f} [{step.speedup[1]:.2f}, {step.speedup[2]:.2f}]" if step.speedup else UNKNOWN
    return (
        step.change,
        step.runtime if step.status == "ok" else f"{step.runtime} ({step.status})",
        _nats(step.kl),
        _nats(step.kl_added),
        f"{100 * step.flips_ratio:.1f} %" if step.flips_ratio is not None else UNKNOWN,
        score,
        speedup,
    )


def _nats(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1e}"
