"""LAMBADA as OpenAI and as its authors published it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.tasks.last_word import load
from tests.experiments.tasks.formats.files import json_lines, write

TEXT = "the carp swam up the rill , and wilma watched the carp"


@pytest.mark.parametrize(
    ("name", "content"),
    [("lambada_test.jsonl", json_lines([{"text": TEXT}, {"text": TEXT}])), ("plain.txt", f"{TEXT}\n{TEXT}\n")],
)
def test_the_last_word_follows_the_last_space(tmp_path: Path, name: str, content: str) -> None:
    passages = load(write(tmp_path / name, content))
    assert [(passage.context, passage.word) for passage in passages] == [(TEXT.removesuffix(" carp"), "carp")] * 2


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "a.jsonl",
            json_lines([{"text": TEXT}, {"words": TEXT}]),
            "line 2: text must be a text .* found the fields words",
        ),
        ("a.jsonl", json_lines([{"text": "carp"}]), "line 1: a passage must have at least two words; found 'carp'"),
        ("a.txt", f"{TEXT}\n\ncarp \n", "a.txt, line 3: a passage must have at least two words; found 'carp'"),
        ("a.txt", "\n", "holds no passage"),
    ],
)
def test_a_set_that_is_almost_right_is_refused_in_one_line(tmp_path: Path, name: str, content: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load(write(tmp_path / name, content))
