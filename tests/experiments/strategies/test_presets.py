"""Each preset is a strategy with options that fit, and each strategy has a preset."""

from __future__ import annotations

import pytest

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.strategies.registry import strategies
from tests.conftest import ROOT

NAMES = sorted(path.stem for path in (ROOT / "conf" / "strategy").glob("*.yaml"))


def test_presets_and_strategies_have_the_same_names() -> None:
    assert set(NAMES) == {"none", *strategies()}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "none"])
def test_a_preset_has_the_options_of_its_strategy(name: str) -> None:
    choice = plan(compose([f"strategy={name}", "benchmark=[code]"]), "").config.strategy
    assert choice.strategy is strategies()[name]
    choice.strategy.check(choice.options)
    assert choice.strategy.about.endswith(".")
