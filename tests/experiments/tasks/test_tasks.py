from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.tasks import choice_scores, multiple_choice, perplexity, questions


@pytest.mark.parametrize("bos_id", [1, None])
@pytest.mark.parametrize("stride", [None, 1, 3, 7])
def test_windows_score_each_token_once(bos_id: int | None, stride: int | None) -> None:
    found = perplexity.windows(range(100, 140), bos_id, 10, stride)
    scored = [token for window in found for token in window.ids[window.first_scored :]]
    assert scored == list(range(100 if bos_id else 101, 140))
    assert all(len(window.ids) <= 10 and window.first_scored >= 1 for window in found)


def test_perplexity_of_a_uniform_distribution() -> None:
    import math

    result = perplexity.summarise([[math.log(0.25)] * 8, [math.log(0.25)] * 4], n_bytes=24)
    assert result.perplexity == pytest.approx(4)
    assert result.per_byte_perplexity == pytest.approx(2)
    assert result.standard_error == pytest.approx(0)


def test_all_of_mmlu_loads(data_folder: Path) -> None:
    found = questions.load(data_folder / "mmlu", None, 5)
    assert len(found.questions) == 14042
    assert len(found.shots_by_subject) == 57
    spread = questions.load(data_folder / "mmlu", 100, 5)
    assert len({question.subject for question in spread.questions}) == 57


def test_hendrycks_prompt() -> None:
    question = questions.Question("1", "high_school_physics", "Why?", ("a", "b"), 1)
    prompt = multiple_choice.prompt(question, [question], "letters")
    assert prompt.prefix == (
        "The following are multiple choice questions (with answers) about high school physics.\n\n"
        "Why?\nA. a\nB. b\nAnswer: B"
    )
    assert prompt.stem == "\n\nWhy?\nA. a\nB. b\nAnswer:"
    assert prompt.endings == [" A", " B"]


@pytest.mark.parametrize(
    ("choices", "read"),
    [
        (["A. một", "B. hai"], ("một", "hai")),
        (["(A) một", "(B) hai"], ("một", "hai")),
        (["A. một", "hai"], ("A. một", "hai")),
        (["B. một", "A. hai"], ("B. một", "A. hai")),
    ],
)
def test_choices_with_their_own_letters_are_not_lettered_twice(
    tmp_path: Path, choices: list[str], read: tuple[str, ...]
) -> None:
    (tmp_path / "vmlu.jsonl").write_text(json.dumps({"question": "?", "choices": choices, "answer": "A"}))
    (question,) = questions.load(tmp_path / "vmlu.jsonl", None, 0).questions
    assert question.choices == read


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("empty.csv", "", "holds no question"),
        ("short.csv", "why,a,b,A\nwhy\n", "line 2: found 1 fields"),
        ("answer.csv", "why,a,b,C\n", "line 1: the answer 'C' is not one of the 2 choices"),
        ("torn.jsonl", '{"question": "why"\n', "line 1: not JSON"),
        ("twice.jsonl", '{"id": 1, "question": "q", "choices": ["a", "b"], "answer": 0}\n' * 2, "occurs twice"),
    ],
)
def test_unusable_questions_are_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=says):
        questions.load(tmp_path / name, None, 0)


def test_unusable_texts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    for name, says in {
        "empty.txt": "is empty",
        "latin.txt": "not UTF-8 at byte 3",
        "none.txt": "cannot be read",
    }.items():
        with pytest.raises(UserError, match=says):
            perplexity.read_text(tmp_path / name)


def test_two_choices_with_the_same_score_are_tied() -> None:
    question = questions.Question("q", "s", "?", ("a", "b", "c"), 1)
    verdicts = [
        choice_scores.score(question, logprobs, "none", [1, 1, 1])
        for logprobs in ([-1.0, -1.0, -2.0], [-3.0, -1.0, -3.0])
    ]
    assert [verdict.is_tied for verdict in verdicts] == [True, False]
    assert choice_scores.summarise(verdicts).tied_items == 1


def test_renamed_fields_apply_to_the_examples_too(tmp_path: Path) -> None:
    for name, number in (("test", 1), ("dev", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"physics_{name}.csv").write_text(f"why,a,b,right\nq{number},x,y,B\n")
    loaded = questions.load(tmp_path, None, 1, {"question": "why", "answer": "right"})
    assert [question.text for question in loaded.questions] == ["q1"]
    (example,) = loaded.shots_by_subject["physics"]
    assert (example.text, example.choices, example.answer) == ("q2", ("x", "y"), 1)
