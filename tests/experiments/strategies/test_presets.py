"""Each preset is of a strategy, with options that fit, and each strategy has one of its own name."""

from __future__ import annotations

import pytest

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.strategies.registry import strategies
from tests.conftest import ROOT

NAMES = sorted(path.stem for path in (ROOT / "conf" / "strategy").glob("*.yaml"))


def test_each_strategy_has_a_preset() -> None:
    assert {"none", *strategies()} <= set(NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "none"])
def test_a_preset_has_the_options_of_its_strategy(name: str) -> None:
    choice = plan(compose([f"strategy={name}", "benchmark=[code]", "benchmark.code.shown_tests=2"]), "").config.strategy
    assert choice.strategy is not None
    assert name.startswith(choice.name)  # `vote_text` is a preset of `vote`
    choice.strategy.check(choice.options)
    assert choice.strategy.about.endswith(".")
