"""The bundled model scores, says and writes what it did: nothing that a benchmark asks, cuts or counts has changed."""

from __future__ import annotations

import pytest

from tests.golden.golden import CHOICES, GENERATED, TOLERANCES, Golden, measure, read


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    golden, _ = measure(tmp_path_factory.mktemp("golden"))
    return golden


def test_scores(measured: Golden) -> None:
    assert measured.scores == pytest.approx(read().scores, abs=TOLERANCES["scores"])


def test_log_probabilities_of_choices(measured: Golden) -> None:
    assert len(read().logprobs) == CHOICES
    assert measured.logprobs == pytest.approx(read().logprobs, abs=TOLERANCES["logprobs"])


def test_perplexity(measured: Golden) -> None:
    assert measured.perplexity == pytest.approx(read().perplexity, abs=TOLERANCES["perplexity"])


@pytest.mark.parametrize("name", GENERATED)
def test_a_text(measured: Golden, name: str) -> None:
    assert measured.texts[name] == read().texts[name]
