"""The likeliest of several samples."""

from __future__ import annotations

from dataclasses import replace

from runtime_matrix.experiments.strategies.samples import STRATEGY, SamplesConfig
from tests.experiments.strategies.scripted import solve, world

CONFIG = SamplesConfig(plain_samples=2, plain_temperature=0.8, samples=3, temperature=0.8, choose="likeliest")


def test_the_likeliest_or_the_first_sample_is_the_answer() -> None:
    likelihood = {"a": -2.0, "b": -1.0, "c": -3.0}
    answer = solve(STRATEGY, CONFIG, world(list("abc"), likelihood=likelihood.__getitem__))
    assert (answer.text, answer.candidates) == ("b", ("a", "b", "c"))
    assert solve(STRATEGY, replace(CONFIG, choose="first"), world(list("abc"))).text == "a"
