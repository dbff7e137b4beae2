"""A cell is the same over versions of the program, and another one where what is measured differs."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.records.identity import cell_names
from tests.experiments.recorded import make_record


def record(config_hash: str, config: dict[str, Any], name: str = "eager") -> dict[str, Any]:
    return make_record(name) | {"config_hash": config_hash, "config": config}


OLD = {"seed": 0, "scoring": {"batch": 4}, "benchmark": {"latency": {"batch": [1]}}}
NEW = {"seed": 0, "scoring": {"batch": 4, "exact": False}, "benchmark": {"latency": {"batch": [1]}}, "later": {"a": 1}}


def test_options_that_a_later_version_brought_are_no_other_cell() -> None:
    assert cell_names([record("a", OLD), record("b", NEW), record("b", NEW), record("a", OLD)]) == ["a"] * 4


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"scoring": {"batch": 8, "exact": False}},
        {"benchmark": {"latency": {"batch": [1]}, "memory": {"batch": 1}}},
        {"benchmark": {"latency": {"batch": [1, 4]}}},
    ],
)
def test_what_both_know_must_be_equal(changed: dict[str, Any]) -> None:
    assert cell_names([record("a", OLD), record("b", NEW | changed)]) == ["a", "b"]


def test_within_one_version_the_hash_decides() -> None:
    assert cell_names([record("a", OLD), record("b", OLD)]) == ["a", "b"]
    assert cell_names([record("a", OLD), record("b", NEW, name="compile")]) == ["a", "b"]


def test_where_a_cell_is_run_does_not_count() -> None:
    assert cell_names([record("a", OLD | {"results_dir": "x"}), record("b", NEW | {"results_dir": "y"})]) == ["a", "a"]
