"""The vote by text and by behaviour."""

from __future__ import annotations

from dataclasses import replace

from runtime_matrix.experiments.strategies.strategy import Execute, Likelihood, Request
from runtime_matrix.experiments.strategies.vote import STRATEGY, VoteConfig
from tests.experiments.strategies.scripted import PROBLEM, solve, world

CONFIG = VoteConfig(
    plain_samples=2,
    plain_temperature=0.8,
    samples=5,
    temperature=0.8,
    by="behaviour",
    inputs=4,
    ties="likeliest",
)
DOES = {"a": [4, 6], "b": [4, 6], "c": [5, 5], "d": None, "e": [ValueError(), ValueError()]}


def test_programs_that_return_the_same_vote_together() -> None:
    answer = solve(STRATEGY, CONFIG, world(list("cabde"), returns=DOES.__getitem__))
    assert answer.text == "a"
    assert answer.candidates == tuple("cabde")
    assert answer.figures == {"agreement": 0.4, "voted_by_text": 0.0, "without_vote": 0.4}


def test_crashes_and_errors_never_win() -> None:
    answer = solve(STRATEGY, CONFIG, world(list("ddeec"), returns=DOES.__getitem__))
    assert answer.text == "c"


def test_without_any_vote_the_likeliest_sample_is_the_answer() -> None:
    answer = solve(
        STRATEGY, CONFIG, world(list("dedde"), returns=DOES.__getitem__, likelihood=lambda text: text == "e")
    )
    assert answer.text == "e"


def test_log_probability_decides_between_equal_groups() -> None:
    def likelihood(text: str) -> float:
        return {"a": -2.0, "b": -1.0, "c": -0.5}[text]

    texts = list("abccd")
    assert solve(STRATEGY, CONFIG, world(texts, returns=DOES.__getitem__, likelihood=likelihood)).text == "c"
    texts = list("aabcc")
    assert solve(STRATEGY, CONFIG, world(texts, returns=DOES.__getitem__, likelihood=likelihood)).text == "b"
    first = replace(CONFIG, ties="first")
    log: list[Request] = []
    assert solve(STRATEGY, first, world(texts, returns=DOES.__getitem__, log=log)).text == "a"
    assert not any(isinstance(request, Likelihood) for request in log)


def test_the_vote_by_text_runs_nothing() -> None:
    log: list[Request] = []
    answer = solve(STRATEGY, replace(CONFIG, by="text"), world(["x", "y", " y\n", "z", "y"], log=log))
    assert answer.text.strip() == "y"
    assert answer.figures["agreement"] == 0.6
    assert not any(isinstance(request, Execute) for request in log)


def test_without_examples_votes_are_by_text_and_counted() -> None:
    answer = solve(STRATEGY, CONFIG, world(list("aabbb")), replace(PROBLEM, examples=()))
    assert (answer.text, answer.figures["voted_by_text"]) == ("b", 1.0)


def test_inputs_are_the_examples_and_their_mutations() -> None:
    log: list[Request] = []
    solve(STRATEGY, CONFIG, world(list("aaaaa"), returns=DOES.__getitem__, log=log))
    (first, *_) = [request for request in log if isinstance(request, Execute)]
    assert first.inputs[0] == (2,)
    assert len(set(first.inputs)) == 4
    assert all(isinstance(value, int) for (value,) in first.inputs)
