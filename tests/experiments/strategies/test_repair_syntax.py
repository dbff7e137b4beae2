"""The greedy text, made to parse."""

from __future__ import annotations

from runtime_matrix.experiments.strategies.repair_syntax import STRATEGY
from runtime_matrix.experiments.strategies.strategy import Generate, Request, StrategyConfig
from tests.experiments.strategies.scripted import solve, world

CONFIG = StrategyConfig(plain_samples=2, plain_temperature=0.8)


def test_a_broken_text_is_repaired_and_nothing_is_run() -> None:
    log: list[Request] = []
    answer = solve(STRATEGY, CONFIG, world(["    return sum([x, x]\n"], log=log))
    assert answer.text == "    return sum([x, x])\n"
    assert answer.stages == {"before": "    return sum([x, x]\n", "after": answer.text}
    assert answer.figures == {"invalid": 1.0, "repaired": 1.0}
    assert all(isinstance(request, Generate) for request in log)


def test_a_valid_text_stays() -> None:
    answer = solve(STRATEGY, CONFIG, world(["    return x  # [\n"]))
    assert (answer.text, answer.figures["invalid"]) == ("    return x  # [\n", 0.0)


def test_what_cannot_be_repaired_is_counted() -> None:
    answer = solve(STRATEGY, CONFIG, world(["I do not know"]))
    assert (answer.text, answer.figures) == ("I do not know", {"invalid": 1.0, "repaired": 0.0})
