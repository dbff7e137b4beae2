"""Extractive question answering and summarization."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.tasks import extractive_qa, summarization


@pytest.mark.parametrize("language", ["en", "vi"])
def test_xquad_loads_and_gold_answers_score_100(data_folder: Path, language: str) -> None:
    questions = extractive_qa.load(data_folder / "xquad" / f"xquad.{language}.json")
    assert len(questions) == 1190
    gold = [question.answers[-1] for question in questions]
    result = extractive_qa.summarise(
        [extractive_qa.exact_match(text, q.answers) for text, q in zip(gold, questions, strict=True)],
        [extractive_qa.f1(text, q.answers) for text, q in zip(gold, questions, strict=True)],
    )
    assert (result.exact_match, result.f1, result.items) == (100, 100, 1190)


@pytest.mark.parametrize(
    ("said", "gold", "exact", "f1"),
    [
        ("The Eiffel Tower!", ["eiffel tower"], True, 1.0),
        ("a tower in Paris", ["the Eiffel Tower", "Paris"], False, 0.5),
        ("tower tower", ["tower"], False, 2 / 3),
        ("", ["tower"], False, 0.0),
        ("năm 1889", ["1889"], False, 2 / 3),
    ],
)
def test_scores_are_those_of_squads_script(said: str, gold: list[str], exact: bool, f1: float) -> None:
    assert extractive_qa.exact_match(said, gold) is exact
    assert extractive_qa.f1(said, gold) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[", "is not JSON"),
        ('{"data": 3}', "not in SQuAD's v1.1 layout"),
        ('{"data": []}', "holds no question"),
        (json.dumps({"data": [{"paragraphs": [{"context": "c", "qas": [{"id": 1, "question": "q", "answers": []}]}]}]}),
         "has no answer"),
        (json.dumps({"data": [{"paragraphs": [{"context": "c", "qas": [{"id": 1, "answers": [{"text": "c"}]}]}]}]}),
         "layout: KeyError"),
    ],
)  # fmt: skip
def test_questions_that_cannot_be_used(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(UserError, match=says):
        extractive_qa.load(tmp_path / "bad.json")


def test_scitldr_loads_with_several_references(data_folder: Path) -> None:
    articles = summarization.load(data_folder / "scitldr" / "test.jsonl")
    assert len(articles) == 618
    assert max(len(article.references) for article in articles) > 1
    rouge = summarization.Rouge()
    assert all(set(rouge(one.references[-1], one.references).values()) == {1.0} for one in articles[:20])


def test_rouge_takes_the_best_reference() -> None:
    rouge = summarization.Rouge()
    found = rouge("the cat sat", ["a dog ran", "the cat sat down"])
    assert found["rouge1"] == pytest.approx(2 * 1.0 * 0.75 / 1.75)
    assert found["rougeL"] == pytest.approx(2 * 1.0 * 0.75 / 1.75)
    result = summarization.summarise([found, {"rouge1": 0.0, "rouge2": 0.0, "rougeL": 0.0}])
    assert result.means["rouge1"] == pytest.approx(50 * 2 * 0.75 / 1.75)


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"article": "a"}, "none of the fields summary"),
        ({"summary": "s"}, "none of the fields article"),
        ({"article": "a", "summary": []}, "summary is empty"),
        ({"article": "a", "summary": [1]}, "must be a text"),
        ({"article": " ", "summary": "s"}, "article is empty"),
    ],
)
def test_articles_that_cannot_be_used(tmp_path: Path, item: dict[str, object], says: str) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps(item))
    with pytest.raises(UserError, match=says):
        summarization.load(tmp_path / "bad.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match="holds no article"):
        summarization.load(tmp_path / "empty.jsonl")
