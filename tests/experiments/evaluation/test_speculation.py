"""Guesses ahead: fewer steps, and never another text."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.schema import GenerationConfig
from runtime_matrix.experiments.evaluation.decoding import random_prompts
from runtime_matrix.experiments.evaluation.generation import GenerationReport, generate
from runtime_matrix.experiments.evaluation.requests import GenerateRequest
from runtime_matrix.experiments.evaluation.speculation import Drafter, DraftModel, History, Lookup
from runtime_matrix.runtimes.base import Hardware, ModelSource, Runtime, Traits
from runtime_matrix.runtimes.engines.eager import Eager
from tests.experiments.evaluation.test_core import mixed_requests, words

LoadedRuntime = tuple[Runtime, Traits]
SMALL = {"model_type": "llama", "vocab_size": 128, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
SMALL |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 256}


def load(source: ModelSource, artifacts: Path) -> LoadedRuntime:
    runtime = Eager()
    return runtime, runtime.load(source, Hardware("cpu", 1, artifacts), lambda _: nullcontext())


@pytest.fixture(scope="module")
def eager(tiny_model: Path, artifacts: Path) -> LoadedRuntime:
    return load(ModelSource("tiny", tiny_model), artifacts)


def drafters(eager: LoadedRuntime, artifacts: Path) -> dict[str, Drafter]:
    other = load(ModelSource("small", None, SMALL, 3), artifacts)
    return {"lookup": Lookup(4), "other": DraftModel(*other, 3), "itself": DraftModel(*eager, 4)}


def test_a_history_returns_the_latest_continuation() -> None:
    history = History([1, 2, 3, 9, 1, 2, 3, 7, 5, 2, 3])
    assert history.continuation(2) == [7, 5]
    history.add(9)
    assert history.continuation(3) == [1, 2, 3]
    assert History([1, 2, 3]).continuation(3) == []
    assert History([4]).continuation(3) == []


@pytest.mark.parametrize("budget", [60, 250, 4096])
@pytest.mark.parametrize("name", ["lookup", "other", "itself"])
def test_a_guess_never_changes_a_text(eager: LoadedRuntime, artifacts: Path, name: str, budget: int) -> None:
    requests = [*mixed_requests(), GenerateRequest((7, 8, 9) * 6, 40), GenerateRequest((5, 6), 9, temperature=1.0)]
    options, report = GenerationConfig(token_budget=budget), GenerationReport()
    drafter = drafters(eager, artifacts)[name]
    found = generate(*eager, requests, words, options=options, report=report, drafter=drafter)
    assert found == generate(*eager, requests, words, options=options)
    assert report.drafted > 0


def test_a_draft_model_equal_to_the_model_is_always_right(eager: LoadedRuntime) -> None:
    requests = [GenerateRequest(tuple(prompt), 20) for prompt in random_prompts(3, 9, 128, 2)]
    report = GenerationReport()
    generate(*eager, requests, words, report=report, drafter=DraftModel(*eager, 4))
    assert report.accepted == report.drafted
    assert report.forwards == 1 + 4  # the prompt gives the first token, each step five more
    assert report.accepted / report.row_steps > 3


def test_an_end_of_text_token_within_a_guess_ends_the_text(eager: LoadedRuntime) -> None:
    (request,) = [GenerateRequest(tuple(random_prompts(1, 9, 128, 2)[0]), 20)]
    ((plain,),) = generate(*eager, [request], words)
    eos = [plain.ids[6]]
    expected = generate(*eager, [request], words, eos)
    assert generate(*eager, [request], words, eos, drafter=DraftModel(*eager, 4)) == expected
    assert expected[0][0].finished_by == "eos"
