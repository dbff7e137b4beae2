"""What a matrix says in one sentence: who is faster than the reference, by how much, at what cost in answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.advice.kept import kept
from runtime_matrix.experiments.advice.next_steps import beside_reference
from runtime_matrix.experiments.analysis.columns import is_alarm
from runtime_matrix.experiments.analysis.speed_row import ONE_LAUNCH
from runtime_matrix.experiments.records.row import Row


@dataclass(frozen=True)
class Bar:
    """One runtime in the chart: its time per token, and its speed against the reference in words."""

    runtime: str
    record_id: str
    milliseconds: float
    share: float  # of the slowest one's time
    said: str
    is_reference: bool


def sentence(rows: Sequence[Row]) -> str | None:
    """Return the verdict of a matrix; None where no cell was measured.

    Of several runs or models it is the one of the latest run that compared speeds.
    """
    measured = [row for row in rows if row.status == "ok"]
    if not measured:
        return None
    compared = _latest(measured)
    if not compared:
        return _nothing_compared(measured)
    reference = next((row for row in compared if row.is_reference), None)
    against = reference.runtime if reference else "the reference"
    best = max(filter(_has_speed, compared), key=lambda row: row["speedup_ratio"] or 0.0)
    return f"{compared_words(best, against)}: {best.model_title or best.model}, {_where(best)}."


def compared_words(row: Row, against: str) -> str:
    """Return a cell's speed against another, and what became of its answers; or why no speed can be told."""
    said = _speed_words(row, against)
    if said is None:
        return f"{row.runtime} cannot be compared with {against}: {row.speedup_reason}"
    return f"{said}{_answers(row)}"


def _has_speed(row: Row) -> bool:
    return row.get("speedup_ratio") is not None


def _speed_words(row: Row, against: str) -> str | None:
    """Return a cell's speed against another; None where it is not known."""
    speedup = row.interval("speedup_ratio")
    if speedup is None:
        return None
    name, (ratio, low, high) = row.runtime, speedup
    bounds = f" [{low:.2f}, {high:.2f}]"
    if low > 1:
        return f"{name} is {ratio:.2g} times as fast as {against}{bounds}"
    if high < 1:
        return f"{name} takes {1 / ratio:.2g} times as long as {against}{_inverse(low, high)}"
    return f"{name} is not told apart from {against}: {ratio:.2f} times as fast{bounds}"


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Return the cells of the latest comparison, the fastest first; none where nothing was compared."""
    compared = _latest([row for row in rows if row.status == "ok"])
    timed = [(row, seconds) for row in compared if (seconds := row["tpot_s_p50"])]
    if not any(_has_speed(row) for row, _ in timed):
        return []
    slowest = max(seconds for _, seconds in timed)
    against = next((row.runtime for row, _ in timed if row.is_reference), "the reference")
    made = [_bar(row, seconds, slowest, against) for row, seconds in timed]
    return sorted(made, key=lambda bar: bar.milliseconds)


def _bar(row: Row, seconds: float, slowest: float, against: str) -> Bar:
    words = _speed_words(row, against)
    said = "the reference" if words is None else words.removeprefix(f"{row.runtime} ")
    return Bar(row.runtime, row.record_id, 1e3 * seconds, seconds / slowest, said, row.is_reference)


def _latest(measured: Sequence[Row]) -> list[Row]:
    """Return the cells that took turns in the latest run that compared speeds, the reference among them."""
    runs = [row for row in measured if _has_speed(row)]
    if not runs:
        return []
    last = max(runs, key=lambda row: row.started_at)
    mine = (last.run_id, last.model)
    chosen = [row for row in measured if (row.run_id, row.model) == mine]
    return [row for row in chosen if row.is_reference or _has_speed(row)]


def _nothing_compared(measured: Sequence[Row]) -> str:
    if all(row.is_reference for row in measured):
        more = beside_reference(measured, "onnxruntime")
        return f"Only the reference, {measured[0].runtime}, is measured. Compare it with another runtime: {more}"
    if any(is_alarm(row) for row in measured):
        return "No speed can be compared: see the cells in red."
    if any(row.speedup_reason == ONE_LAUNCH for row in measured):
        return f"No speeds are told: {ONE_LAUNCH}."
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
    return f"a token at a time, {threads} of {row.processor or row.hw}"


def _inverse(low: float, high: float) -> str:
    return f" [{1 / high:.2f}, {1 / low:.2f}]"
