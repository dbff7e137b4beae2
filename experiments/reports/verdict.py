"""The matrix in one sentence: which runtime is faster than the reference, by how much, and what it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.advice.kept import kept
from runtime_matrix.experiments.advice.next_steps import beside_reference
from runtime_matrix.experiments.analysis.columns import is_alarm
from runtime_matrix.experiments.analysis.speed_row import ONE_LAUNCH
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.reports.strategies import strategies_sentence


@dataclass(frozen=True)
class Bar:
    """One bar of the chart: a runtime's time per token, and its speed against the reference as text."""

    runtime: str
    record_id: str
    milliseconds: float
    share: float  # of the time of the slowest
    speed: str  # against the reference, as text
    is_reference: bool


def sentence(rows: Sequence[Row]) -> str | None:
    """Return the verdict of a matrix; None if no cell was measured.

    With several runs or models, it covers the latest run that compared speeds.
    """
    measured = [row for row in rows if row.status == "ok"]
    if not measured:
        return None
    compared = _latest(measured)
    if not compared:
        return _nothing_compared(rows)
    reference = next((row for row in compared if row.is_reference), None)
    against = _name(reference, compared) if reference else "the reference"
    best = max(filter(_has_speed, compared), key=lambda row: row["speedup_ratio"] or 0.0)
    return f"{compared_words(best, against, _name(best, compared))}: {best.model_title or best.model}, {_where(best)}."


def compared_words(row: Row, against: str, name: str = "") -> str:
    """Return a cell's speed against another and what it keeps of the scores, or why its speed is unknown.

    `name`: what the cell is called, by default its runtime.
    """
    speed_text = _speed_words(row, against, name or row.runtime)
    if speed_text is None:
        return f"{name or row.runtime} cannot be compared with {against}: {row.speedup_reason}"
    return f"{speed_text}{_answers(row)}"


def _name(row: Row, rows: Sequence[Row]) -> str:
    """Return the cell's runtime, with its options if rows of the same runtime differ in them."""
    options = {other.variant for other in rows if other.runtime == row.runtime}
    return f"{row.runtime} with {row.variant}" if len(options) > 1 and row.variant else row.runtime


def _has_speed(row: Row) -> bool:
    return row.get("speedup_ratio") is not None


def _speed_words(row: Row, against: str, name: str) -> str | None:
    """Return the speed of a cell of this name against another; None if it is unknown."""
    speedup = row.interval("speedup_ratio")
    if speedup is None:
        return None
    ratio, low, high = speedup
    bounds = f" [{low:.2f}, {high:.2f}]"
    if low > 1:
        return f"{name} is {ratio:.2g} times as fast as {against}{bounds}"
    if high < 1:
        return f"{name} takes {1 / ratio:.2g} times as long as {against}{_inverse(low, high)}"
    return f"{name} is tied with {against}: {ratio:.2f} times as fast{bounds}"


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Return the cells of the latest comparison, fastest first; empty if nothing was compared."""
    compared = _latest([row for row in rows if row.status == "ok"])
    timed = [(row, seconds) for row in compared if (seconds := row["tpot_s_p50"])]
    if not any(_has_speed(row) for row, _ in timed):
        return []
    slowest = max(seconds for _, seconds in timed)
    against = next((_name(row, compared) for row, _ in timed if row.is_reference), "the reference")
    chart_bars = [_bar(row, seconds, slowest, against, _name(row, compared)) for row, seconds in timed]
    return sorted(chart_bars, key=lambda bar: bar.milliseconds)


def _bar(row: Row, seconds: float, slowest: float, against: str, name: str) -> Bar:
    speed_text = _speed_words(row, against, name)
    text = "the reference" if speed_text is None else speed_text.removeprefix(f"{name} ")
    return Bar(name, row.record_id, 1e3 * seconds, seconds / slowest, text, row.is_reference)


def _latest(measured: Sequence[Row]) -> list[Row]:
    """Return the interleaved cells of the latest run that compared speeds, with the reference."""
    runs = [row for row in measured if _has_speed(row)]
    if not runs:
        return []
    last = max(runs, key=lambda row: row.started_at)
    latest_key = (last.run_id, last.model)
    same_run = [row for row in measured if (row.run_id, row.model) == latest_key]
    return [row for row in same_run if row.is_reference or _has_speed(row)]


def _nothing_compared(rows: Sequence[Row]) -> str:
    if any(is_alarm(row) for row in rows):
        return "No speed can be compared: see the cells in red."
    measured = [row for row in rows if row.status == "ok"]
    if all(row.is_reference for row in measured):
        if (of_strategies := strategies_sentence(measured)) is not None:
            return of_strategies
        more = beside_reference(measured, "onnxruntime")
        return f"Only the reference, {measured[0].runtime}, is measured. Compare it with another runtime: {more}"
    if any(row.speedup_reason == ONE_LAUNCH for row in measured):
        return f"No speeds are reported: {ONE_LAUNCH}."
    return "No speeds were compared: a sweep with the reference in it does that, as in -m runtime=eager,onnxruntime."


def _answers(row: Row) -> str:
    share = kept(row)
    if share is None or row.is_reference:  # whose answers are compared with none
        return ""
    same = row.get("output_match_rate")
    if same == 1.0 and abs(share - 1) < 0.0005:
        return " and gave the same answers on the items measured"
    return f" and keeps {100 * share:.1f} % of its scores on the items measured"


def _where(row: Row) -> str:
    threads = f"{row.threads} thread{'s' if row.threads != 1 else ''}"
    return f"one token at a time, {threads} of {row.processor or row.hw}"


def _inverse(low: float, high: float) -> str:
    return f" [{1 / high:.2f}, {1 / low:.2f}]"
