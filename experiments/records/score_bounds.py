"""How far a cell's scores may lie from its reference's: bounds of the paired difference, from `answers.json`."""

from __future__ import annotations

from runtime_matrix.experiments.records.schema import BenchmarkDiff, Figures, OutputDiff

# A row's score, its benchmark, and what the items' 0 to 1 are multiplied with in the row.
SCORES = {
    "mcq_accuracy": ("multiple_choice", 1.0),
    "code_pass_at_1": ("code", 1.0),
    "qa_f1": ("extractive_qa", 100.0),
    "rouge_l": ("summarization", 100.0),
}


def score_bounds(diff: OutputDiff | None) -> Figures:
    """Return `SCORE_difference`, `_low` and `_high` against the reference, on the same items; None where unknown.

    The bounds are 95 % intervals that hold also where no item differs (`measurement/paired.py`, `loss`).
    """
    benchmarks: dict[str, BenchmarkDiff] = diff.benchmarks if diff is not None else {}
    figures: Figures = {}
    for score, (benchmark, scale) in SCORES.items():
        compared = benchmarks.get(benchmark)
        difference = compared.score_difference if compared is not None else None
        ends = (difference.estimate, difference.low, difference.high) if difference is not None else (None,) * 3
        for suffix, value in zip(("", "_low", "_high"), ends, strict=True):
            figures[f"{score}_difference{suffix}"] = None if value is None else scale * value
    compared = benchmarks.get("perplexity")
    ratio = compared.perplexity_ratio if compared is not None else None
    figures["perplexity_ratio_low"] = ratio.low if ratio else None
    figures["perplexity_ratio_high"] = ratio.high if ratio else None
    return figures
