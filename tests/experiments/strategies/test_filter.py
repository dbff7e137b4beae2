"""Samples until one passes the visible tests."""

from __future__ import annotations

from runtime_matrix.experiments.strategies.filter import STRATEGY, FilterConfig
from runtime_matrix.experiments.strategies.strategy import Generate, Request, RunTests
from tests.experiments.strategies.scripted import solve, world

CONFIG = FilterConfig(plain_samples=2, plain_temperature=0.8, samples=5, at_once=2, temperature=0.8)


def test_a_greedy_text_that_passes_costs_no_sample() -> None:
    log: list[Request] = []
    answer = solve(STRATEGY, CONFIG, world(["good"], log=log))
    assert (answer.text, answer.figures) == ("good", {"survivors": 1.0, "texts": 1.0})
    (request,) = [request for request in log if isinstance(request, Generate)]
    assert (request.samples, request.temperature) == (1, 0.0)
    (tests,) = [request for request in log if isinstance(request, RunTests)]
    assert tests.tests == ("assert double(2) == 4",)


def test_the_first_sample_that_passes_is_the_answer() -> None:
    log: list[Request] = []
    texts = ["bad", "worse", "good", "good too"]
    answer = solve(STRATEGY, CONFIG, world(texts, passes=lambda text: text.startswith("good"), log=log))
    assert (answer.text, answer.figures) == ("good", {"survivors": 1.0, "texts": 3.0})
    turns = [request.turn for request in log if isinstance(request, Generate)]
    assert len(set(turns)) == len(turns)


def test_without_a_survivor_the_greedy_text_is_the_answer() -> None:
    answer = solve(STRATEGY, CONFIG, world([f"bad {number}" for number in range(9)], passes=lambda text: False))
    assert (answer.text, len(answer.candidates)) == ("bad 0", 6)
    assert answer.figures["survivors"] == 0.0


def test_given_solutions_may_run_out() -> None:
    answer = solve(STRATEGY, CONFIG, world(["bad", "worse"], passes=lambda text: False))
    assert (answer.text, answer.candidates) == ("bad", ("bad", "worse"))
