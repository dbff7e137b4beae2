"""The page's first answer: who is best at what, what the next one costs, and who lost too many answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import ModelIdentity, Status
from runtime_matrix.experiments.reports.cards import answers
from runtime_matrix.experiments.reports.page import page
from runtime_matrix.experiments.reports.reading import read
from tests.experiments.recorded import make_record, sweep, write


@pytest.fixture
def shown(tmp_path: Path) -> list[Row]:
    """Rows with so many questions that no flip shows 99 % to be kept."""
    return rows(read(sweep(tmp_path / "many", questions=600, has_garbage=True))[0])


def test_a_cell_that_is_best_for_several_goals_has_one_card(shown: list[Row]) -> None:
    said = answers(shown)
    assert said is not None
    assert [card.row.runtime for card in said.cards] == ["onnxruntime", "eager"]
    fast, small = said.cards
    assert fast.title == "Fastest tokens, most tokens per hour"
    assert small.title == "Least memory"
    assert [name for name, _, _, is_won in fast.figures if is_won] == ["decode speed", "batched"]
    assert [name for name, _, _, is_won in small.figures if is_won] == ["peak memory"]
    assert said.lost == ["gptq"]  # smaller and faster than eager, and 37 % of the answers gone
    assert (said.unshown, said.is_none_shown) == ([], False)


def test_a_cell_that_keeps_nothing_is_below_the_floor(tmp_path: Path) -> None:
    cells = [make_record("eager"), make_record("gptq", accuracy=0.0)]
    said = answers(rows(read(write(tmp_path, cells, {"gptq": 2.0}))[0]))
    assert said is not None
    assert said.lost == ["gptq"]


def test_a_cell_with_wrong_output_is_on_no_card_and_is_an_alarm(shown: list[Row]) -> None:
    said = answers(shown)
    assert said is not None
    assert "t_garbage" not in [card.row.runtime for card in said.cards]
    assert not any("t_garbage" in str(card.other) or "t_garbage" in card.tied for card in said.cards)
    (line,) = said.alarms
    assert line.startswith("not compared: t_garbage: wrong output: 1,296 of 1,296 timed tokens")


def test_a_cell_with_too_few_items_is_listed_as_unshown(found: list[Row]) -> None:
    said = answers(found)
    assert said is not None
    assert [card.row.runtime for card in said.cards] == ["eager"]
    assert said.is_none_shown
    assert [cell.runtime for cell in said.unshown] == ["onnxruntime", "compile"]
    fast = said.unshown[0]
    assert fast.speed == "decode 2.51×"
    assert fast.why.startswith("keeps 100.0 % [8")
    assert "items would show it" in fast.why


def test_the_runner_up_has_its_costs_and_gains(shown: list[Row]) -> None:
    said = answers(shown)
    assert said is not None
    other = said.cards[0].other
    assert other is not None
    assert (other.runtime, other.is_tied) == ("compile", False)
    assert other.exchange.replace("\N{NO-BREAK SPACE}", " ") == (
        "40 % lower decode speed, 40 % lower batch speed, 42 % more memory"
    )


def test_the_reference_alone_has_no_cards(tmp_path: Path) -> None:
    results = read(write(tmp_path, [make_record("eager")]))[0]
    said = answers(rows(results))
    assert said is not None
    assert (said.cards, said.without_price, said.is_alone) == ([], False, True)
    assert page(results).count("-m runtime=eager,onnxruntime") == 1


def test_a_known_price_adds_the_goal_of_cost(tmp_path: Path) -> None:
    cells = [make_record("eager", price=1.0), make_record("slow", price=1.0, slowness=2)]
    results = read(write(tmp_path, cells, {"slow": 0.5}))[0]
    said = answers(rows(results))
    assert said is not None
    assert not said.without_price
    assert said.cards[0].title.endswith("cheapest tokens")
    assert "No hourly price" not in page(results)


def test_cells_that_were_not_interleaved_are_not_ranked(tmp_path: Path) -> None:
    results = read(write(tmp_path, [make_record("eager", price=1.0), make_record("slow", price=1.0, slowness=2)]))[0]
    said = answers(rows(results))
    assert said is not None
    assert [title for title, _ in said.not_ranked] == ["Most tokens per hour", "Cheapest tokens"]
    assert "Most tokens per hour: not ranked, no batches were measured in turns" in page(results)


@pytest.mark.parametrize("status", ["unsupported", "crash"])
def test_without_measured_cells_there_are_no_cards(tmp_path: Path, status: Status) -> None:
    assert answers(rows(read(write(tmp_path, [make_record("eager", status=status, reason="no")]))[0])) is None


def test_speeds_of_different_models_are_not_ranked_together(found: list[Row], tmp_path: Path) -> None:
    other = replace(make_record("fast", slowness=0.01), model=ModelIdentity(name="tiny", digest="e" * 32))
    said = answers([*found, *rows(read(write(tmp_path / "other", [other]))[0])])
    assert said is not None
    assert said.model == "bundled"
    assert "fast" not in [card.row.runtime for card in said.cards]
