"""Limits on figures of a cell: memory, loading, exact counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from runtime_matrix.experiments.gates.baseline import Baseline, counts
from runtime_matrix.experiments.gates.findings import Finding, Measured, row_of
from runtime_matrix.experiments.gates.limits import UNITS
from runtime_matrix.experiments.measurement.interval import Interval
from runtime_matrix.experiments.measurement.paired import difference_of_means, mean_interval
from runtime_matrix.experiments.measurement.sequential import Verdict
from runtime_matrix.experiments.records.schema import Launch

_PEAK = "peak_host_bytes"  # which launches measure


def judge_shares(
    measured: Measured,
    name: str,
    limits: Mapping[str, float],
    theirs: Mapping[str, float | None],
    against: str,
) -> list[Finding]:
    """Judge figures that may exceed another's by a share. What neither knows is not judged."""
    mine, found = row_of(measured.result), []
    for figure, share in limits.items():
        value, other = mine[figure], theirs.get(figure)
        if (value is None and other is None) or figure == _PEAK:
            continue
        full, unit = f"{name}.{figure}", UNITS[figure]
        if value is None or other is None:
            where = against if value is not None else "this run"
            found.append(Finding(measured.label, full, "inconclusive", f"{figure} is not known of {where}"))
            continue
        is_over = value > other * (1 + share)
        said = (
            f"{figure} {_shown(value, unit)} against {_shown(other, unit)} of {against}, at most {100 * share:g} % more"
        )
        advice = ""
        if is_over:
            said += f": grew {100 * (value / other - 1):.1f} %" if other else ": grew from nothing"
            meant = "update=true" if name.startswith("baseline") else f"raise gate.{full}"
            advice = f"find what grew, or if it is meant {meant}"
        verdict: Verdict = "fail" if is_over else "pass"
        bound = other * (1 + share)
        found.append(
            Finding(measured.label, full, verdict, said, unit, "lower", value, limit=bound, n=1, advice=advice)
        )
    return found


def grown_pairs(launches: Sequence[Launch]) -> list[float]:
    """Return log(the cell's peak / the reference's), one for each launch that knows both."""
    pairs = [(launch.candidate_memory.peak_host_bytes, launch.reference_memory.peak_host_bytes) for launch in launches]
    return [math.log(mine / theirs) for mine, theirs in pairs if mine and theirs]


def judge_peaks(
    measured: Measured,
    name: str,
    limits: Mapping[str, float],
    grown: Sequence[float] | Interval | None,
    against: str,
    level: float,
) -> list[Finding]:
    """Judge the peak of memory by launches: `grown` has the logarithms of its ratio, or already their interval."""
    if _PEAK not in limits:
        return []
    full, share = f"{name}.{_PEAK}", limits[_PEAK]
    seen = grown if isinstance(grown, Interval) or grown is None else mean_interval(grown, 2 * level - 1)
    if seen is None:
        return [Finding(measured.label, full, "inconclusive", f"{_PEAK} of too few launches is known to judge it by")]
    value, low, high = (math.expm1(end) for end in (seen.estimate, seen.low, seen.high))
    verdict: Verdict = "pass" if high <= share else "fail" if low > share else "inconclusive"
    said = f"{_PEAK} {100 * value:+.1f} % [{100 * low:+.1f}, {100 * high:+.1f}] against {against}, at most "
    said += f"{100 * share:g} % more"
    advice = ""
    if verdict == "fail":
        meant = "update=true" if name.startswith("baseline") else f"raise gate.{full}"
        advice = f"find what grew, or if it is meant {meant}"
    elif verdict == "inconclusive":
        advice = "more gate.looks, or a wider limit"
    return [Finding(measured.label, full, verdict, said, "share more", "lower", value, low, high, share, advice=advice)]


def grown_apart(launches: Sequence[Launch], earlier: Sequence[float | None], level: float) -> Interval | None:
    """Return the interval of log(peak now / peak of the baseline), whose launches were other ones."""
    now = [peak for launch in launches if (peak := launch.candidate_memory.peak_host_bytes)]
    before = [peak for peak in earlier if peak]
    return difference_of_means([math.log(peak) for peak in now], [math.log(peak) for peak in before], 2 * level - 1)


def judge_counts(measured: Measured, baseline: Baseline, names: Sequence[str]) -> list[Finding]:
    mine, theirs, found = counts(measured.result.record), baseline.counts, []
    for name in names:
        value, other = mine[name], theirs.get(name)
        if value is None and other is None:
            continue
        full = f"baseline.counts.{name}"
        if value is None or other is None:
            found.append(
                Finding(measured.label, full, "inconclusive", f"{name} {value}, the baseline {other}: not counted")
            )
            continue
        is_worse = value != other if name == "tokens" else value > other
        verdict: Verdict = "fail" if is_worse else "pass"
        said = f"{name} {value:,}, the baseline {other:,}" + (": an exact count that changed" if is_worse else "")
        advice = "find the cause, or if it is meant update=true" if is_worse else ""
        found.append(
            Finding(measured.label, full, verdict, said, "count", "lower", value, limit=other, n=1, advice=advice)
        )
    return found


def _shown(value: float, unit: str) -> str:
    return f"{value:.2f} s" if unit == "s" else f"{value / 2**20:,.2f} MiB"
