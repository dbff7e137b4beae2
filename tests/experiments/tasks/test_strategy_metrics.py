"""The gain of a strategy as a factor, by the strategy's name."""

from __future__ import annotations

from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.tasks.strategy_metrics import gain_ratio_keys, gain_ratio_metric

ENTRY = Entry(
    benchmark="code",
    case="",
    status="ok",
    parameters={"strategy": "repair_syntax"},
    figures={"gain_ratio": 1.2, "gain_ratio_low": 1.1, "gain_ratio_high": 1.3},
)


def test_each_key_reads_its_own_end_of_its_own_strategy() -> None:
    keys = gain_ratio_keys(ENTRY)
    metrics = [metric for key in keys if (metric := gain_ratio_metric(key)) is not None]
    assert [metric.figures(ENTRY) for metric in metrics] == [
        {"code_gain_ratio_of_repair_syntax": 1.2},
        {"code_gain_ratio_of_repair_syntax_low": 1.1},
        {"code_gain_ratio_of_repair_syntax_high": 1.3},
    ]
    other = gain_ratio_metric("code_gain_ratio_of_vote")
    assert other is not None
    assert other.figures(ENTRY) == {"code_gain_ratio_of_vote": None}
    assert gain_ratio_metric("code_pass_at_1") is None
