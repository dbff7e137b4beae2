"""The page's first answer: who is best at what, what the next one costs, and who lost too many answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.records.matrix import rows
from experiments.report import read
from experiments.views.cards import answers
from experiments.views.columns import Row
from experiments.views.page import page
from tests.experiments.recorded import make_record, write


def test_a_cell_that_is_best_at_several_goals_has_one_card(found: list[Row]) -> None:
    said = answers(found)
    assert said is not None
    assert [card["row"]["runtime"] for card in said["cards"]] == ["onnxruntime", "eager"]
    fast, small = said["cards"]
    assert fast["title"] == "Fastest tokens, most tokens an hour and per dollar"
    assert small["title"] == "Least memory"
    assert [name for name, _, _, is_won in fast["figures"] if is_won] == ["decode speed", "offline"]
    assert [name for name, _, _, is_won in small["figures"] if is_won] == ["peak memory"]
    assert said["lost"] == ["gptq"]  # smaller and faster than eager, and 37 % of the answers gone


def test_the_next_best_is_named_with_what_it_costs_and_gains(found: list[Row]) -> None:
    said = answers(found)
    assert said is not None
    name, is_tied, exchange = said["cards"][0]["other"]
    assert (name, is_tied) == ("compile", False)
    assert exchange.startswith("costs decode speed −40.")
    assert "memory +41.7" in exchange


def test_a_known_price_is_a_goal(tmp_path: Path) -> None:
    records = read(write(tmp_path, [make_record("eager", price=1.0), make_record("slow", price=1.0, slowness=2)]))[0]
    said = answers(rows(records))
    assert said is not None
    assert not said["without_price"]
    assert said["cards"][0]["title"].endswith("cheapest tokens")
    assert "No price an hour" not in page(records)


@pytest.mark.parametrize("status", ["unsupported", "crash"])
def test_nothing_measured_is_no_answer(tmp_path: Path, status: str) -> None:
    assert answers(rows(read(write(tmp_path, [make_record("eager", status=status, reason="no")]))[0])) is None


def test_speeds_of_different_models_are_not_ranked_together(found: list[Row], tmp_path: Path) -> None:
    other = make_record("fast", slowness=0.01) | {"model": {"name": "tiny", "digest": "e" * 32, "shape": None}}
    said = answers([*found, *rows(read(write(tmp_path / "other", [other]))[0])])
    assert said is not None
    assert said["model"] == "bundled"
    assert "fast" not in [card["row"]["runtime"] for card in said["cards"]]
