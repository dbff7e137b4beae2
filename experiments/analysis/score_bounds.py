"""Figures of a row from the comparison of answers: score differences with bounds, flips, equal texts, p values."""

from __future__ import annotations

from runtime_matrix.experiments.records.comparison import BenchmarkDiff, OutputDiff
from runtime_matrix.experiments.records.row import Figures
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.tasks.registry import scores
from runtime_matrix.experiments.tasks.task import Score


def comparison_figures(diff: OutputDiff | None) -> Figures:
    """Return the row's figures from the item-by-item comparison with the reference; None if unknown."""
    benchmarks: dict[str, BenchmarkDiff] = diff.benchmarks if diff is not None else {}
    figures: Figures = {}
    equal, compared = 0, 0
    suspicious = [
        benchmark_diff.suspicious_items
        for benchmark_diff in benchmarks.values()
        if benchmark_diff.suspicious_items is not None
    ]
    for name, score in scores().items():
        benchmark_diff = benchmarks.get(name)
        figures[f"{score.metric}_items"] = benchmark_diff.items if benchmark_diff is not None else None
        figures |= score_bounds(score, benchmark_diff) | (_flips(score, benchmark_diff) if score.is_discrete else {})
        if score.has_texts:
            same, texts = _same_texts(benchmark_diff)
            figures[f"{score.prefix}_output_match_rate"] = same / texts if texts else None
            equal, compared = equal + same, compared + texts
    figures["output_match_rate"] = equal / compared if compared else None
    figures["suspicious_items"] = sum(map(len, suspicious)) if suspicious else None
    return figures


def score_bounds(score: Score, benchmark_diff: BenchmarkDiff | None) -> Figures:
    """Return the paired difference of a score from the reference's, or the ratio of perplexities, with bounds.

    The bounds are 95 % intervals that also hold if no item differs (`statistics/paired.py`, `loss`).
    """
    if score.kind.is_ratio:
        return _with_ends(
            f"{score.metric}_ratio", benchmark_diff.perplexity_ratio if benchmark_diff is not None else None, 1.0
        )
    difference = benchmark_diff.score_difference if benchmark_diff is not None else None
    return _with_ends(f"{score.metric}_difference", difference, score.scale)


def _flips(score: Score, benchmark_diff: BenchmarkDiff | None) -> Figures:
    flips = benchmark_diff.flips if benchmark_diff is not None else None
    return {
        f"{score.prefix}_flips_ratio": flips.estimate if flips else None,
        f"{score.prefix}_flips_ratio_high": flips.high if flips else None,
        f"{score.prefix}_p_value": benchmark_diff.p_value_holm if benchmark_diff is not None else None,
    }


def _same_texts(benchmark_diff: BenchmarkDiff | None) -> tuple[int, int]:
    """Return the number of texts that equal the reference's and that of compared texts; (0, 0) if there are none."""
    if benchmark_diff is None or benchmark_diff.same_texts is None or benchmark_diff.different_items is None:
        return 0, 0
    return benchmark_diff.items - len(benchmark_diff.different_items), benchmark_diff.items


def _with_ends(key: str, interval: Interval | None, scale: float) -> Figures:
    ends = (interval.estimate, interval.low, interval.high) if interval is not None else (None, None, None)
    return {
        f"{key}{suffix}": None if value is None else scale * value
        for suffix, value in zip(("", "_low", "_high"), ends, strict=True)
    }
