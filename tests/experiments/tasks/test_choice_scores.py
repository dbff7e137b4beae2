"""MC2, and verdicts where the right choice is not known."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from runtime_matrix.experiments.evaluation.requests import Scored
from runtime_matrix.experiments.tasks.choice_scores import NORMALISATIONS, Verdict, judged, summarise, truth_mass
from runtime_matrix.experiments.tasks.formats.choices.question import Question, Truths
from runtime_matrix.experiments.tasks.multiple_choice import write_submission


def result(total: float) -> Scored:
    return Scored((total,), (0.0,))


def test_mc2_is_the_mass_of_the_true_answers() -> None:
    truths = Truths(("a", "b", "c"), (True, True, False))
    logprobs = {"a": math.log(0.1), "b": math.log(0.2), "c": math.log(0.1), "other": 0.0}
    assert truth_mass(truths, logprobs) == pytest.approx(0.75)
    far = {"a": -2000.0, "b": -2000.0, "c": -2000.0}  # exp of these is 0
    assert truth_mass(truths, far) == pytest.approx(2 / 3)


def test_each_answer_of_mc1_and_mc2_is_scored_once() -> None:
    truths = Truths(("true", "also true", "false"), (True, True, False))
    question = Question("q", "s", "?", ("true", "false"), 0, truths=truths)
    assert question.scored_texts == ("true", "false", "also true")
    by_rule: dict[str, list[Verdict]] = {rule: [] for rule in NORMALISATIONS}
    results = iter([result(math.log(0.2)), result(math.log(0.3)), result(math.log(0.5))])
    (item,) = judged([question], results, "none", by_rule)
    assert (item.predicted, item.is_right, len(item.logprobs)) == (1, False, 2)  # MC1
    assert item.truth_mass == pytest.approx(0.7)  # MC2


def test_without_answers_there_is_no_accuracy_but_a_submission(tmp_path: Path) -> None:
    questions = [
        Question("28-0001", "28", "?", ("x", "y"), None),
        Question("7", "s", "?", ("x", "y"), None, ("0", "1")),
    ]
    by_rule: dict[str, list[Verdict]] = {rule: [] for rule in NORMALISATIONS}
    results = map(result, (-2.0, -1.0, -1.0, -2.0))
    items = list(judged(questions, results, "none", by_rule))
    assert [item.is_right for item in items] == [None, None]
    summary = summarise(by_rule["none"])
    assert (summary.accuracy, summary.by_subject, summary.items) == (None, {}, 2)
    write_submission(tmp_path / "submission.csv", questions, items)
    assert (tmp_path / "submission.csv").read_bytes() == b"id,answer\n28-0001,B\n7,0\n"
    assert [path.name for path in tmp_path.iterdir()] == ["submission.csv"]
