"""What a row says of answers, from what a record and its comparison hold."""

from __future__ import annotations

from typing import Any

import pytest

from runtime_matrix.experiments.records.matrix import rows
from tests.experiments.recorded import make_record


def texts(items: int, different: int) -> dict[str, Any]:
    share = {"estimate": 1 - different / items, "low": 0.0, "high": 1.0}
    return {"items": items, "same_texts": share, "different_items": [f"i-{n}" for n in range(different)]}


def test_same_texts_are_of_all_benchmarks_together_and_of_each() -> None:
    record = make_record("onnxruntime")
    record["answers"] = {"benchmarks": {"code": texts(60, 10), "extractive_qa": texts(150, 0)}}
    (row,) = rows([record])
    assert row["same_texts_ratio"] == pytest.approx(200 / 210)
    assert row["code_same_texts_ratio"] == pytest.approx(50 / 60)
    assert row["qa_same_texts_ratio"] == 1
    assert row["rouge_same_texts_ratio"] is None


def test_texts_that_nobody_compared_are_unknown() -> None:
    (row,) = rows([make_record("eager")])
    names = ("same_texts_ratio", "code_same_texts_ratio", "qa_same_texts_ratio", "rouge_same_texts_ratio")
    assert [row[name] for name in names] == [None] * 4


def test_ties_are_a_share_of_the_compared_positions() -> None:
    record = make_record("eager")
    record["benchmarks"].append({**record["benchmarks"][0], "benchmark": "agreement"})
    figures = {"same_top_ratio": 1.0, "max_logit_difference": 0.0, "positions": 80, "tied_positions": 20}
    record["benchmarks"][-1]["figures"] = figures
    assert rows([record])[0]["agreement_tied_ratio"] == 0.25
    del figures["tied_positions"]  # a record from before they were counted
    assert rows([record])[0]["agreement_tied_ratio"] is None


def test_the_largest_overlap_is_shown() -> None:
    record = make_record("eager")
    assert rows([record])[0]["calibration_overlap_ratio"] is None
    record["overlap"] = {
        "benchmarks": {
            "code": {"items": 60, "calibration": 0.0, "training": None},
            "extractive_qa": {"items": 150, "calibration": 0.02, "training": None},
        }
    }
    (row,) = rows([record])
    assert (row["calibration_overlap_ratio"], row["training_overlap_ratio"]) == (0.02, None)
