"""How far a cell's scores may lie from its reference's: bounds of the paired difference, from `answers.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A row's score, its benchmark, and what the items' 0 to 1 are multiplied with in the row.
SCORES = {
    "mcq_accuracy": ("multiple_choice", 1.0),
    "code_pass_at_1": ("code", 1.0),
    "qa_f1": ("extractive_qa", 100.0),
    "rouge_l": ("summarization", 100.0),
}


def score_bounds(answers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return `SCORE_difference`, `_low` and `_high` against the reference, on the same items; None where unknown.

    The bounds are 95 % intervals that hold also where no item differs (`measurement/paired.py`, `loss`).
    """
    found = (answers or {}).get("benchmarks", {})
    row: dict[str, Any] = {"against": (answers or {}).get("against")}
    for score, (benchmark, scale) in SCORES.items():
        difference = found.get(benchmark, {}).get("score_difference") or {}
        for suffix, end in (("", "estimate"), ("_low", "low"), ("_high", "high")):
            value = difference.get(end)
            row[f"{score}_difference{suffix}"] = None if value is None else scale * value
    ratio = found.get("perplexity", {}).get("perplexity_ratio") or {}
    row["perplexity_ratio_low"], row["perplexity_ratio_high"] = ratio.get("low"), ratio.get("high")
    return row
