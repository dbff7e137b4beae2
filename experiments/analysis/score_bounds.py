"""What the comparison of answers tells a row: differences of scores with bounds, flips, equal texts, p values."""

from __future__ import annotations

from runtime_matrix.experiments.records.comparison import BenchmarkDiff, OutputDiff
from runtime_matrix.experiments.records.row import Figures
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.tasks.registry import scores
from runtime_matrix.experiments.tasks.task import Score


def comparison_figures(diff: OutputDiff | None) -> Figures:
    """Return the row's figures of what was compared with the reference, item by item; None where unknown."""
    benchmarks: dict[str, BenchmarkDiff] = diff.benchmarks if diff is not None else {}
    figures: Figures = {}
    equal, compared = 0, 0
    suspicious = [found.suspicious_items for found in benchmarks.values() if found.suspicious_items is not None]
    for name, score in scores().items():
        found = benchmarks.get(name)
        figures[f"{score.metric}_items"] = found.items if found is not None else None
        figures |= score_bounds(score, found) | (_flips(score, found) if score.is_discrete else {})
        if score.has_texts:
            same, texts = _same_texts(found)
            figures[f"{score.prefix}_output_match_rate"] = same / texts if texts else None
            equal, compared = equal + same, compared + texts
    figures["output_match_rate"] = equal / compared if compared else None
    figures["suspicious_items"] = sum(map(len, suspicious)) if suspicious else None
    return figures


def score_bounds(score: Score, found: BenchmarkDiff | None) -> Figures:
    """Return how far a score may lie from the reference's, on the same items: a difference, or a ratio of perplexities.

    The bounds are 95 % intervals that hold also where no item differs (`statistics/paired.py`, `loss`).
    """
    if score.kind == "perplexity":
        return _with_ends(f"{score.metric}_ratio", found.perplexity_ratio if found is not None else None, 1.0)
    difference = found.score_difference if found is not None else None
    return _with_ends(f"{score.metric}_difference", difference, score.scale)


def _flips(score: Score, found: BenchmarkDiff | None) -> Figures:
    flips = found.flips if found is not None else None
    return {
        f"{score.prefix}_flips_ratio": flips.estimate if flips else None,
        f"{score.prefix}_flips_ratio_high": flips.high if flips else None,
        f"{score.prefix}_p_value": found.p_value_holm if found is not None else None,
    }


def _same_texts(found: BenchmarkDiff | None) -> tuple[int, int]:
    """Return how many texts of a benchmark are the reference's, and of how many; (0, 0) where none were compared."""
    if found is None or found.same_texts is None or found.different_items is None:
        return 0, 0
    return found.items - len(found.different_items), found.items


def _with_ends(key: str, interval: Interval | None, scale: float) -> Figures:
    ends = (interval.estimate, interval.low, interval.high) if interval is not None else (None, None, None)
    return {
        f"{key}{suffix}": None if value is None else scale * value
        for suffix, value in zip(("", "_low", "_high"), ends, strict=True)
    }
