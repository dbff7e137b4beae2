"""Questions about passages: SQuAD 2.0 with unanswerable questions, and its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.tasks.extractive_qa import load, prompt
from tests.experiments.tasks.formats.files import asked, json_lines, squad, write


def row(name: str, answers: Any, **changes: Any) -> dict[str, Any]:
    """Return a row of UIT-ViQuAD 2.0 as on the Hub."""
    return {
        "id": name,
        "title": "Lan",
        "context": "Lan sống ở Hà Nội.",
        "question": "Ở đâu?",
        "answers": answers,
        **changes,
    }


V2 = squad([asked("1", "Hà Nội", "Hà Nội", "ở Hà Nội"), asked("2")])
ROWS = [
    row("1", {"text": ["Hà Nội", "ở Hà Nội"], "answer_start": [11, 8]}, is_impossible=False),
    row("2", {"text": [], "answer_start": []}, is_impossible=True),
]


@pytest.mark.parametrize(("name", "content"), [("dev.json", V2), ("rows.json", ROWS), ("rows.jsonl", json_lines(ROWS))])
def test_unanswerable_questions_have_no_answers(tmp_path: Path, name: str, content: Any) -> None:
    questions = load(write(tmp_path / name, content))
    assert [(question.id, question.answers) for question in questions] == [("1", ("Hà Nội", "ở Hà Nội")), ("2", ())]
    assert all(question.may_refuse for question in questions)
    assert all("(Answer 'unanswerable' if" in prompt(question, "unanswerable") for question in questions)


def test_an_empty_list_of_squads_own_rows_is_unanswerable(tmp_path: Path) -> None:
    (question,) = load(write(tmp_path / "a.jsonl", json_lines([row("1", {"text": [], "answer_start": []})])))
    assert question.answers == ()


def test_the_prompt_of_version_1_is_unchanged(tmp_path: Path) -> None:
    item = asked("1", "Hà Nội")
    del item["is_impossible"]
    (question,) = load(write(tmp_path / "a.json", squad([item])))
    assert prompt(question, "unanswerable") == "Passage: Lan sống ở Hà Nội.\n\nQuestion: Ở đâu?\nAnswer:"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", squad([asked("1", "x", is_impossible=True)]), "question '1' has answers, although is_impossible"),
        ("a.json", squad([asked("1", is_impossible=False)]), "question '1' has no answer, and no is_impossible"),
        ("a.json", squad([asked("1", is_impossible="no")]), "is_impossible of the question '1' must be true or false"),
        (
            "a.json",
            squad([{"id": "1", "question": "?"}]),
            "not in SQuAD's layout: KeyError.'answers'. after 0 questions",
        ),
        ("a.json", squad([asked("1", "x"), asked("1", "y")]), "the id '1' occurs twice"),
        ("a.jsonl", json_lines([ROWS[0], row("2", None)]), "line 2: answers must have a list `text`"),
        ("a.jsonl", json_lines([{"context": "c", "question": "q", "id": 1}]), "line 1: has no answers"),
    ],
)
def test_a_set_that_is_almost_right_is_refused_in_one_line(tmp_path: Path, name: str, content: Any, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        load(write(tmp_path / name, content))
    assert "\n" not in str(error.value)
