"""Items as questions of a judge, and answers of another cell to compare with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.judges.judge import Question
from runtime_matrix.experiments.tasks.judged import _answers, figures, read_questions
from runtime_matrix.experiments.tasks.registry import benchmarks
from runtime_matrix.experiments.tasks.task import QualityTask, Rubric

ITEM = {"id": 7, "prompt": "Who?", "text": "Anna", "answers": ["Anna", "Ann"], "is_right": True, "cluster": 3}


def written(path: Path, *items: object) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def test_items_are_read_by_the_rubric(tmp_path: Path) -> None:
    path = written(tmp_path / "items.jsonl", ITEM)
    assert read_questions(path, Rubric(cluster="cluster")) == [
        Question("7", "Who?", "Anna", ("Anna", "Ann"), True, "3")
    ]
    other = Rubric(references="text", is_right=None)
    assert read_questions(path, other) == [Question("7", "Who?", "Anna", ("Anna",), None, None)]


def test_the_benchmarks_of_texts_have_a_rubric_and_columns() -> None:
    judged = [task for task in benchmarks().values() if isinstance(task, QualityTask) and task.rubric is not None]
    assert {task.name for task in judged} >= {"extractive_qa", "summarization", "free_form"}
    for task in judged:
        assert task.score is not None
        assert f"{task.score.prefix}_judge_score" in {metric.key for metric in task.metrics}


@pytest.mark.parametrize(
    "items", [[[1]], [{"id": "a"}], [{"text": "x"}], [{"id": None, "text": "x"}], [{"id": "a", "text": 5}], []]
)
def test_answers_of_another_form_are_one_line(tmp_path: Path, items: list[object]) -> None:
    path = written(tmp_path / "items.jsonl", *items)
    if not items:
        assert _answers(path) == {}
        return
    with pytest.raises(UserError) as raised:
        _answers(path)
    assert "\n" not in str(raised.value)


def test_answers_of_another_cell(tmp_path: Path) -> None:
    assert _answers(written(tmp_path / "items.jsonl", ITEM)) == {"7": "Anna"}


def test_no_items_give_no_figures() -> None:
    found = figures([], [])
    assert (found["judge_score"], found["judge_agreement_kappa"], found["judge_no_verdict"]) == (None, None, 0)
