"""Items per hour, and what all of MMLU would take and cost."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.analysis.rates import MMLU_QUESTIONS, mmlu_hours, mmlu_sentence
from runtime_matrix.experiments.records.schema import Record
from tests.experiments.recorded import make_record, result


def with_figures(record: Record, **figures: float) -> Record:
    entries = [replace(entry, figures={**entry.figures, **figures}) for entry in record.benchmarks]
    return replace(record, benchmarks=entries)


def test_items_per_hour_are_of_the_whole_benchmark() -> None:
    (row,) = rows([result(make_record("eager", questions=40))])  # 40 questions in 2 s
    assert row["mcq_items_per_hour"] == pytest.approx(72_000)
    assert row["full_mmlu_hours"] == pytest.approx(MMLU_QUESTIONS / 72_000)
    assert row["full_mmlu_usd"] is None
    assert row["code_items_per_hour"] is None


def test_a_price_per_hour_gives_the_price_of_items() -> None:
    (row,) = rows([result(make_record("eager", questions=40, price=3.6))])
    assert row["usd_per_thousand_mcq_items"] == pytest.approx(0.05)
    assert row["full_mmlu_usd"] == pytest.approx(3.6 * MMLU_QUESTIONS / 72_000)
    assert mmlu_sentence(row, None) == mmlu_sentence(row, 3.6)


@pytest.mark.parametrize("cached", ["cached_responses", "cached_verdicts"])
def test_cached_items_have_no_rate(cached: str) -> None:
    (row,) = rows([result(with_figures(make_record("eager"), **{cached: 1}))])
    assert row["mcq_items_per_hour"] is None
    assert row["full_mmlu_hours"] is None
    assert mmlu_sentence(row, 1.0) is None


def test_the_projection_is_said_with_its_price() -> None:
    (row,) = rows([result(make_record("eager", questions=40))])
    sentence = mmlu_sentence(row, 10.0)
    assert sentence == "all of MMLU at its rate of multiple choice (14,042 questions as long as these): 0.195 h, $1.95"
    assert mmlu_hours(None) is mmlu_hours(0.0) is None
