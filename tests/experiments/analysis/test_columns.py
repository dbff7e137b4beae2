"""Which columns a set of rows shows."""

from __future__ import annotations

import pytest

from runtime_matrix.experiments.analysis import columns
from runtime_matrix.experiments.analysis.columns import COLUMNS, known
from runtime_matrix.experiments.analysis.ranking import mark_best
from runtime_matrix.experiments.records.metric import Metric
from runtime_matrix.experiments.records.row import Row
from tests.experiments.recorded import changed_row


def with_answers(found: list[Row], *figures: dict[str, float] | dict[str, None]) -> list[Row]:
    return [changed_row(row, **more) for row, more in zip(found, figures, strict=False)]


def qa(exact: float, f1: float) -> dict[str, float]:
    return {
        "qa_exact_match": exact,
        "qa_f1": f1,
        "qa_exact_match_standard_error": 1.0,
        "qa_f1_standard_error": 1.0,
        "qa_f1_difference": 0.0,
        "qa_f1_difference_low": -0.5,
        "qa_f1_difference_high": 0.5,
    }


def shown(found: list[Row]) -> dict[str, Metric]:
    return {column.key: column for column in known(found)}


def test_f1_equal_to_exact_match_in_every_row_is_replaced_by_it(found: list[Row]) -> None:
    rows = with_answers(found, qa(77.3, 77.3), qa(78.0, 78.0), {})
    columns = shown(rows)
    assert "qa_f1" not in columns
    f1 = next(column for column in COLUMNS if column.key == "qa_f1")
    assert columns["qa_exact_match"].rank == f1.rank
    assert columns["qa_exact_match"].title == "QA exact"
    assert {key for _, key in mark_best(rows, list(columns.values()))} >= {"qa_exact_match"}


def test_f1_that_differs_in_one_row_stays(found: list[Row]) -> None:
    columns = shown(with_answers(found, qa(77.3, 77.3), qa(78.0, 79.0)))
    assert columns["qa_f1"].rank < columns["qa_exact_match"].rank
    assert "qa_f1" not in shown(found)


def test_a_warning_column_needs_a_warning(found: list[Row]) -> None:
    for key in ("agreement_tied_ratio", "calibration_overlap_ratio", "training_overlap_ratio"):
        assert key not in shown(with_answers(found, {key: 0.0}, {key: None}))
        assert shown(with_answers(found, {key: 0.0}, {key: 0.25}))[key].rank > 4


def test_same_texts_name_their_benchmark(found: list[Row]) -> None:
    keys = ("output_match_rate", "code_output_match_rate", "qa_output_match_rate", "rouge_output_match_rate")
    columns = shown(with_answers(found, dict.fromkeys(keys, 0.5)))
    assert [columns[key].title for key in keys] == ["same texts", "same code", "same QA answers", "same summaries"]
    assert all(columns[key].rank > columns["output_match_rate"].rank for key in keys[1:])
    assert "the fewest" not in columns["output_match_rate"].about


def test_a_further_metric_without_a_column_of_its_benchmark_is_last(
    found: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    further = Metric(key="recall_at_5", title="recall@5", benchmark="recall")
    monkeypatch.setattr(columns, "further_metric", lambda key: further if key == further.key else None)
    assert columns.with_further(with_answers(found, {further.key: 0.5}))[-1] == further
