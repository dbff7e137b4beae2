"""The figures of answers in a row, from a record and its comparison."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.matrix import readable, rows
from runtime_matrix.experiments.records.comparison import BenchmarkDiff, OutputDiff
from runtime_matrix.experiments.records.schema import Overlap, OverlapShare
from runtime_matrix.experiments.statistics.interval import Interval
from tests.experiments.recorded import make_record, result


def texts(items: int, different: int) -> BenchmarkDiff:
    share = Interval(1 - different / items, 0.0, 1.0, 0.95)
    return BenchmarkDiff(
        items=items, score="is_right", same_texts=share, different_items=[f"i-{n}" for n in range(different)]
    )


def test_same_texts_are_of_all_benchmarks_together_and_of_each() -> None:
    benchmarks = {"code": texts(60, 10), "extractive_qa": texts(150, 0)}
    diff = OutputDiff(schema_version=1, against="reference", benchmarks=benchmarks)
    (row,) = rows([result(make_record("onnxruntime"), diff=diff)])
    assert row["output_match_rate"] == pytest.approx(200 / 210)
    assert row["code_output_match_rate"] == pytest.approx(50 / 60)
    assert row["qa_output_match_rate"] == 1
    assert row["rouge_output_match_rate"] is None


def test_the_match_rate_without_compared_texts_is_unknown() -> None:
    (row,) = rows([result(make_record("eager"))])
    names = ("output_match_rate", "code_output_match_rate", "qa_output_match_rate", "rouge_output_match_rate")
    assert [row[name] for name in names] == [None] * 4


def test_ties_are_a_share_of_the_compared_positions() -> None:
    record = make_record("eager")
    figures = {"same_top_ratio": 1.0, "max_logit_difference": 0.0, "positions": 80, "tied_positions": 20}
    record.benchmarks.append(replace(record.benchmarks[0], benchmark="agreement", figures=figures))
    assert rows([result(record)])[0]["agreement_tied_ratio"] == 0.25
    del figures["tied_positions"]  # a record from before they were counted
    assert rows([result(record)])[0]["agreement_tied_ratio"] is None


def test_the_largest_overlap_is_shown() -> None:
    record = make_record("eager")
    assert rows([result(record)])[0]["calibration_overlap_ratio"] is None
    shares = {
        "code": OverlapShare(items=60, calibration=0.0),
        "extractive_qa": OverlapShare(items=150, calibration=0.02),
    }
    (row,) = rows([result(replace(record, overlap=Overlap(benchmarks=shares)))])
    assert (row["calibration_overlap_ratio"], row["training_overlap_ratio"]) == (0.02, None)


def test_a_damaged_record_is_refused_with_its_reason() -> None:
    good = make_record("eager")
    worded = replace(good.benchmarks[1], figures={"tokens_per_s": "many"})
    damaged = [replace(good, benchmarks=[worded]), replace(good, config={"benchmark": ["latency"]})]
    kept, refused = readable([result(record) for record in (good, *damaged)])
    assert [each.record for each in kept] == [good]
    assert [reason for _, reason in refused] == [
        "damaged: TypeError: throughput.tokens_per_s is str, not a number",
        "damaged: AttributeError: 'list' object has no attribute 'items'",
    ]
