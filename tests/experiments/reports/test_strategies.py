"""The sentence on strategies."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.store import read_results
from runtime_matrix.experiments.reports.strategies import strategies_sentence
from tests.experiments.recorded import changed_row, make_record, write


def row_of(folder: Path, strategy: str, gain: float | None, reach: float = 0.1) -> Row:
    (row,) = rows(read_results(write(folder / strategy, [make_record("eager")]))[0])
    figures = {"code_new_tokens_per_problem": 120.0, "code_greedy_new_tokens_per_problem": 40.0}
    if gain is not None:
        figures |= {
            "code_gain_over_greedy": gain,
            "code_gain_over_greedy_low": gain - reach,
            "code_gain_over_greedy_high": gain + reach,
        }
    return replace(changed_row(row, **figures), strategy=strategy, variant=f"strategy={strategy}")


def test_a_gain_within_its_interval_is_none(tmp_path: Path) -> None:
    found = [row_of(tmp_path, "vote", -0.1), row_of(tmp_path, "filter", 0.05), row_of(tmp_path, "none", None)]
    assert strategies_sentence(found) == (
        "No strategy gains beyond its interval over greedy; the most is +0.050 [-0.050, +0.150] of pass@1 by filter."
    )


def test_a_gain_is_told_with_its_price(tmp_path: Path) -> None:
    found = [row_of(tmp_path, "vote", 0.15), row_of(tmp_path, "filter", 0.2)]
    assert (
        strategies_sentence(found) == "filter gains +0.200 [+0.100, +0.300] of pass@1 over greedy, for 3.0× the tokens."
    )


def test_without_strategies_nothing_is_said(tmp_path: Path) -> None:
    assert strategies_sentence([row_of(tmp_path, "none", None)]) is None
