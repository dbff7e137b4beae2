"""How far a cell's scores may lie from its reference's: bounds of the paired difference, from `answers.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.measurement.paired import exact_proportion

_FEW = 10  # items that differ, below which a t interval promises too much, as in `measurement/paired.py`
# A row's score, its benchmark, and what the items' 0 to 1 are multiplied with in the row.
SCORES = {
    "mcq_accuracy": ("multiple_choice", 1.0),
    "code_pass_at_1": ("code", 1.0),
    "qa_f1": ("extractive_qa", 100.0),
    "rouge_l": ("summarization", 100.0),
}


def score_bounds(answers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return `SCORE_difference`, `_low` and `_high` against the reference, on the same items; None where unknown.

    That no item differs does not say that none ever would: then the bounds are exact ones.
    """
    found = (answers or {}).get("benchmarks", {})
    row: dict[str, Any] = {"against": (answers or {}).get("against")}
    for score, (benchmark, scale) in SCORES.items():
        bounds = _bounds(found.get(benchmark, {}))
        for suffix, value in zip(("", "_low", "_high"), bounds or (None, None, None), strict=True):
            row[f"{score}_difference{suffix}"] = None if value is None else scale * value
    ratio = found.get("perplexity", {}).get("perplexity_ratio") or {}
    row["perplexity_ratio_low"], row["perplexity_ratio_high"] = ratio.get("low"), ratio.get("high")
    return row


def _bounds(figures: Mapping[str, Any]) -> tuple[float, float, float] | None:
    difference = figures.get("score_difference")
    if difference is None:
        return None
    low, high = difference["low"], difference["high"]
    if "flips" in figures:
        lost, won = figures["right_to_wrong"], figures["wrong_to_right"]
        if lost + won < _FEW:
            low = min(low, -exact_proportion(lost, figures["items"]).high)
            high = max(high, exact_proportion(won, figures["items"]).high)
    elif "same_texts" in figures and len(figures["different_items"]) < _FEW:
        open_share = 1 - figures["same_texts"]["low"]  # of texts that may differ, by a whole score each at most
        low, high = min(low, -open_share), max(high, open_share)
    return difference["estimate"], low, high
