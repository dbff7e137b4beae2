"""What the trials of all levels show about each candidate: its gain over the reference, and its constraints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from msgspec import structs
from scipy import special

from runtime_matrix.experiments.advice.choose import GIB, Constraints
from runtime_matrix.experiments.advice.kept import is_shown, kept_scores
from runtime_matrix.experiments.analysis.columns import is_alarm
from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.analysis.ranking import PEAK, bounds
from runtime_matrix.experiments.records.comparison import Launch, Result
from runtime_matrix.experiments.records.ratios import Clock, interval_of, log_ratios, seconds
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.searching.policy import Seen
from runtime_matrix.experiments.statistics.interval import Interval

LEVEL = 0.99  # of each interval: many candidates are judged, several times
GOAL_PHASES = {"latency": "decode", "throughput": "throughput"}  # phases of `records.ratios`


@dataclass(frozen=True)
class Trial:
    """A candidate's result at one level, and its reference's."""

    result: Result
    reference: Result


# By candidate, its trials at the levels so far. The last one is judged by the constraints.
Trials = Mapping[str, Sequence[Trial]]


def observe(trials: Trials, request: Constraints) -> list[Seen]:
    """Return what is known of each candidate, from its trials at all levels.

    Launches of all levels are pooled, because each is timed in turns with the same reference. Their variance is pooled
    over candidates: two launches of one alone would not tell it.
    """
    matrix = {name: row_of(tried[-1]) for name, tried in trials.items()}
    launches = {name: launches_of(tried) for name, tried in trials.items()}
    if request.goal == "memory":
        gains = {name: _memory_gain(row) for name, row in matrix.items()}
    else:
        gains = gains_of({name: _values(launches[name], request.goal) for name in trials})
        gains |= {name: Interval(0.0, 0.0, 0.0, LEVEL) for name, row in matrix.items() if row.is_reference}
    return [_seen(name, matrix[name], launches[name], gains[name], request) for name in trials]


def row_of(trial: Trial) -> Row:
    """Return the row of a trial beside its reference's, also where a resumed sweep gave the two different runs."""
    record = trial.result.record
    if record.is_reference:
        return rows([trial.result], all=True)[0]
    beside = replace(trial.reference, record=structs.replace(trial.reference.record, run_id=record.run_id))
    return rows([beside, trial.result], all=True)[1]


def launches_of(tried: Sequence[Trial]) -> list[Launch]:
    """Return the launches of all levels."""
    return [launch for trial in tried if trial.result.speed is not None for launch in trial.result.speed.launches]


def gains_of(values: Mapping[str, Sequence[float]], level: float = LEVEL) -> dict[str, Interval | None]:
    """Return the mean of each candidate's values with a t interval from the variance pooled over candidates.

    None without a value, or if no candidate has two.
    """
    freedom = sum(len(group) - 1 for group in values.values() if group)
    if not freedom:
        return dict.fromkeys(values)
    squares = sum((value - fmean(group)) ** 2 for group in values.values() if group for value in group)
    deviation, reach = math.sqrt(squares / freedom), float(special.stdtrit(freedom, (1 + level) / 2))
    gains: dict[str, Interval | None] = {}
    for name, group in values.items():
        half = reach * deviation / math.sqrt(len(group)) if group else 0.0
        gains[name] = Interval(fmean(group), fmean(group) - half, fmean(group) + half, level) if group else None
    return gains


def _values(launches: Sequence[Launch], goal: str) -> list[float]:
    return [-value for value in log_ratios(launches, GOAL_PHASES[goal], Clock.WALL)]


def _memory_gain(row: Row) -> Interval | None:
    """Return minus the logarithm of the peak in bytes; its bounds are those of the matrix."""
    ends = bounds(row, PEAK)
    if ends is None or ends[0] <= 0:
        return None
    low, value, high = (-math.log(end) for end in reversed(ends))
    return Interval(value, low, high, LEVEL)


def _seen(name: str, row: Row, launches: Sequence[Launch], gain: Interval | None, request: Constraints) -> Seen:
    if row.status != "ok" or is_alarm(row):
        return Seen(name, None, False, f"{row.status}: {row.reason}" if row.reason else row.status)
    checks = [
        _accuracy(row, request.min_accuracy),
        _ceiling("memory", "GiB", _memory_gib(row), request.max_memory_gib),
        _ceiling("time to first token", "s", _ttft_s(row, launches), request.max_ttft_s),
    ]
    broken = [why for is_met, why in checks if is_met is False]
    if broken:
        return Seen(name, gain, False, "; ".join(broken))
    unknown = [why for is_met, why in checks if is_met is None]
    if gain is None:
        unknown.append("its gain was not measured")
    return Seen(name, gain, None if unknown else True, "; ".join(unknown))


def _accuracy(row: Row, floor: float | None) -> tuple[bool | None, str]:
    """Return whether the bounds show that the floor is kept (True) or missed (False), and a phrase."""
    scores = kept_scores(row)
    if floor is None:
        return True, ""
    if not scores:
        return None, "its scores were not measured"
    if is_shown(row, floor):
        return True, ""
    worst = min(scores, key=lambda score: -1.0 if score.low is None else score.low)
    missed = [score for score in scores if score.high is not None and score.high < floor]
    return (False, missed[0].text) if missed else (None, f"not shown: {worst.text}")


def _ceiling(
    what: str, unit: str, ends: tuple[float, float, float] | None, limit: float | None
) -> tuple[bool | None, str]:
    """Return whether the bounds are below the limit (True) or above it (False), and a phrase."""
    if limit is None:
        return True, ""
    if ends is None:
        return None, f"its {what} was not measured"
    low, value, high = ends
    phrase = f"{what} {value:.3g} {unit} [{low:.3g}, {high:.3g}]"
    return True if high <= limit else False if low > limit else None, phrase


def _memory_gib(row: Row) -> tuple[float, float, float] | None:
    ends = bounds(row, PEAK)
    return None if ends is None else (ends[0] / GIB, ends[1] / GIB, ends[2] / GIB)


def _ttft_s(row: Row, launches: Sequence[Launch]) -> tuple[float, float, float] | None:
    """Return the seconds to the first token of the interleaved rounds; the reference's from its own rounds."""
    interval = interval_of(seconds(launches, "prefill", "reference" if row.is_reference else "candidate"), LEVEL)
    return None if interval is None else (interval.low, interval.estimate, interval.high)
