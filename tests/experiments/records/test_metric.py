"""Figures as they are shown, and the figures of grid points."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.columns import known
from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.metric import error_key, number, with_error, with_interval
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import Entry
from tests.experiments.recorded import changed_row, make_record


def row_of(*entries: Entry) -> Row:
    record = make_record("eager")
    kept = [entry for entry in record.benchmarks if entry.benchmark not in {new.benchmark for new in entries}]
    (row,) = rows([Result(replace(record, benchmarks=[*kept, *entries]), Path("record"))])
    return row


def latency(batch: int, tpot_s: float, status: str = "ok") -> Entry:
    shape = {"batch": batch, "prompt_tokens": 64, "new_tokens": 8}
    samples = {"ttft_s": [0.01] * 3, "tpot_s": [tpot_s] * 21} if status == "ok" else {}
    return Entry(
        benchmark="latency",
        status=status,  # type: ignore[arg-type]
        reason=None if status == "ok" else "out of memory",
        case=f"b{batch}-p64-n8",
        parameters=shape,
        samples=samples,
    )


def test_a_failed_first_grid_point_is_unknown_and_not_replaced_by_the_next() -> None:
    row = row_of(latency(1, 0.002, "failed"), latency(8, 0.004))
    assert row["tpot_s_p50"] is None
    assert row["tpot_s_p50@b8-p64-n8"] == pytest.approx(0.004)


def test_further_grid_points_are_columns_after_the_first() -> None:
    row = row_of(latency(1, 0.002), latency(8, 0.004), latency(32, 0.008))
    columns = known([row])
    keys = [column.key for column in columns]
    place = keys.index("tpot_s_p50")
    assert keys[place + 1 : place + 3] == ["tpot_s_p50@b8-p64-n8", "tpot_s_p50@b32-p64-n8"]
    assert columns[place + 1].title == "TPOT p50 at b8-p64-n8"
    assert columns[place + 1].show(row) == "4.00 alone"
    assert row["decode_tokens_per_s@b8-p64-n8"] == pytest.approx(2000)
    assert row.get("tpot_s_p95@b8-p64-n8") is None  # 30 samples cannot tell


def test_early_records_name_their_grid_point_by_the_test() -> None:
    assert Entry(benchmark="latency", status="ok", case="test_latency[b8-p64-n32]").point == "b8-p64-n32"
    assert Entry(benchmark="code", status="ok", case="test_code").point == "test_code"


def test_pass_at_k_is_a_column_where_it_was_measured() -> None:
    figures = {"pass_at_1": 0.5, "pass_at_1_standard_error": 0.1, "pass_at_10": 0.9, "pass_at_10_standard_error": 0.05}
    row = row_of(Entry(benchmark="code", status="ok", figures=figures))
    (column,) = [column for column in known([row]) if column.key == "code_pass_at_10"]
    assert (column.title, column.show(row)) == ("code pass@10", "0.900 ± 0.050")
    assert "code_pass_at_10" not in {column.key for column in known([row_of()])}


def test_the_reached_batch_sizes_are_figures() -> None:
    scored = {"accuracy": 0.5, "forward_rows": 120, "forwards": 10}
    written = {"f1": 50.0, "forward_rows": 1, "forwards": 1, "step_rows": 90, "steps": 3}
    row = row_of(
        Entry(benchmark="multiple_choice", status="ok", figures=scored),
        Entry(benchmark="extractive_qa", status="ok", figures=written),
    )
    assert (row["mcq_rows_per_forward"], row["qa_rows_per_forward"]) == (12, 30)


@pytest.mark.parametrize(
    ("value", "shown"), [(9_999.4, "9,999"), (10_449.0, "10,400"), (34_567.0, "34,600"), (-23_456.0, "-23,500")]
)
def test_a_large_figure_has_three_significant_digits(value: float, shown: str) -> None:
    row = changed_row(row_of(), big=value, big_low=value, big_high=value, big_standard_error=12_345.0)
    assert number("{:,.0f}")(row, "big") == shown
    assert with_interval("{:,.0f}")(row, "big") == shown
    assert with_error(0)(changed_row(row, big=12_345.0), "big") == "12300 ± 12300"


def test_the_key_of_a_mean_s_error_replaces_the_suffix() -> None:
    assert error_key("kl_mean") == "kl_standard_error"
    assert error_key("mcq_accuracy@b8") == "mcq_accuracy_standard_error@b8"
