"""What was answered is found again by its content, and by nothing that differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runtime_matrix.experiments.evaluation.requests import Generated, GenerateRequest, Scored, ScoreRequest
from runtime_matrix.experiments.evaluation.response_cache import Responses

REQUEST = ScoreRequest((5, 6, 7, 8), 2, (1, 2, 3))
SCORED = Scored((-0.1, -1 / 3), (0.0, 0.25))
WRITING = GenerateRequest((1, 2, 3), 9, ("\n",))
TEXT = Generated((4, 5), "ab", "stop")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "responses.sqlite"


def opened(path: Path | None, use: bool = True, **identity: str) -> Responses:
    return Responses(path, {"model": "m", **identity}, use)


def test_scores_are_restored_bit_for_bit(path: Path) -> None:
    first = opened(path)
    assert first.scores([REQUEST], exact=False) == [None]
    first.keep_scores([(REQUEST, SCORED)], exact=False)
    again = opened(path)
    assert again.scores([REQUEST, replace(REQUEST, first_scored=3)], exact=False) == [SCORED, None]
    assert again.hits == 1


def test_a_separate_prefix_is_the_same_request(path: Path) -> None:
    kept = opened(path)
    kept.keep_scores([(REQUEST, SCORED)], exact=False)
    assert kept.scores([ScoreRequest((1, 2, 3, 5, 6, 7, 8), 5)], exact=False) == [SCORED]


def test_each_difference_makes_another_request(path: Path) -> None:
    opened(path).keep_scores([(REQUEST, SCORED)], exact=False)
    assert opened(path, runtime="other").scores([REQUEST], exact=False) == [None]
    assert opened(path).scores([REQUEST], exact=True) == [None]
    assert opened(path, use=False).scores([REQUEST], exact=False) == [None]


def test_texts_depend_on_their_options(path: Path) -> None:
    kept = opened(path)
    kept.keep_text(WRITING, 0, [9], TEXT)
    assert kept.texts(WRITING, [9]) == [TEXT]
    for other in (replace(WRITING, max_new_tokens=8), replace(WRITING, stop=()), replace(WRITING, temperature=0.5)):
        assert kept.texts(other, [9]) == [None]
    assert kept.texts(WRITING, [8]) == [None]
    assert kept.texts(replace(WRITING, seeds=(7,)), [9]) == [TEXT]  # greedy: the seed is not used
    sampled = replace(WRITING, temperature=0.5, seeds=(7, 8))
    kept.keep_text(sampled, 1, [9], TEXT)
    assert kept.texts(sampled, [9]) == [None, TEXT]


def test_nothing_is_stored_without_a_file() -> None:
    kept = opened(None)
    kept.keep_scores([(REQUEST, SCORED)], exact=False)
    assert kept.scores([REQUEST], exact=False) == [None]
    kept.close()
