"""Extractive question answering and summarization."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.tasks import extractive_qa, qa_scores, summarization
from runtime_matrix.experiments.tasks.language import ENGLISH, UNICODE, chosen


@pytest.mark.parametrize("language", ["en", "vi"])
def test_xquad_loads_and_gold_answers_score_100(data_folder: Path, language: str) -> None:
    questions = extractive_qa.load(data_folder / "xquad" / f"xquad.{language}.json")
    assert len(questions) == 1190
    gold = [question.answers[-1] for question in questions]
    used = chosen("auto", (answer for question in questions for answer in question.answers))
    assert used == {"en": "english", "vi": "unicode"}[language]
    result = qa_scores.summarise(
        [qa_scores.exact_match(text, q.answers, used) for text, q in zip(gold, questions, strict=True)],
        [qa_scores.f1(text, q.answers, used) for text, q in zip(gold, questions, strict=True)],
    )
    assert (result.exact_match, result.f1, result.items) == (100, 100, 1190)


@pytest.mark.parametrize(
    ("prediction", "gold", "exact", "f1"),
    [
        ("The Eiffel Tower!", ["eiffel tower"], True, 1.0),
        ("a tower in Paris", ["the Eiffel Tower", "Paris"], False, 0.5),
        ("tower tower", ["tower"], False, 2 / 3),
        ("", ["tower"], False, 0.0),
        ("năm 1889", ["1889"], False, 2 / 3),
    ],
)
def test_scores_equal_those_of_squads_script(prediction: str, gold: list[str], exact: bool, f1: float) -> None:
    assert qa_scores.exact_match(prediction, gold, ENGLISH) is exact
    assert qa_scores.f1(prediction, gold, ENGLISH) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("prediction", "gold", "f1"),
    [
        ("má mã mạ", "mả mà mẫ", 0.0),
        ("Nghệ", "Nghệ An", 2 / 3),  # "an" is no article here
        ("Nghe\u0323\u0302 An", "Nghệ An", 1.0),  # decomposed and composed
        ("“Nghệ An”.", "nghệ an", 1.0),
        ("北京是中国的首都", "北京是中国的首都。", 1.0),
        ("上海", "北京", 0.0),
        ("北海", "北京", 0.5),
        ("किताब", "किताबें", 0.0),  # one word each, whatever its vowel signs
        ("…", "…", 1.0),
    ],
)
def test_scores_outside_english(prediction: str, gold: str, f1: float) -> None:
    assert qa_scores.f1(prediction, [gold], UNICODE) == pytest.approx(f1)
    assert qa_scores.exact_match(prediction, [gold], UNICODE) is (f1 == 1)
    if prediction.isalpha() or " " in prediction:
        assert summarization.Rouge(UNICODE)(prediction, [gold])["rouge1"] == pytest.approx(f1)


def test_the_references_choose_the_language() -> None:
    assert chosen("auto", ["Beyoncé" + " sang the anthem at the inauguration of the president" * 6]) == ENGLISH
    assert chosen("auto", ["Thủ đô của Việt Nam là Hà Nội"]) == UNICODE
    assert chosen("auto", ["La capitale, célèbre dans le monde entier, est située sur la Seine"]) == UNICODE
    assert chosen("english", ["Hà Nội"]) == ENGLISH


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[", "layout: not JSON"),
        ('{"data": 3}', "not in SQuAD's layout"),
        ('{"data": []}', "holds no question"),
        (json.dumps({"data": [{"paragraphs": [{"context": "c", "qas": [{"id": 1, "question": "q", "answers": []}]}]}]}),
         "has no answer"),
        (json.dumps({"data": [{"paragraphs": [{"context": "c", "qas": [{"id": 1, "answers": [{"text": "c"}]}]}]}]}),
         "layout: KeyError"),
    ],
)  # fmt: skip
def test_unusable_questions_are_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(UserError, match=says):
        extractive_qa.load(tmp_path / "bad.json")


def test_scitldr_loads_with_several_references(data_folder: Path) -> None:
    articles = summarization.load(data_folder / "scitldr" / "test.jsonl")
    assert len(articles) == 618
    assert max(len(article.references) for article in articles) > 1
    rouge = summarization.Rouge(chosen("auto", (text for one in articles for text in one.references)))
    assert all(set(rouge(one.references[-1], one.references).values()) == {1.0} for one in articles[:20])


def test_rouge_takes_the_best_reference() -> None:
    rouge = summarization.Rouge(ENGLISH)
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
def test_unusable_articles_are_refused(tmp_path: Path, item: dict[str, object], says: str) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps(item))
    with pytest.raises(UserError, match=says):
        summarization.load(tmp_path / "bad.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match="holds no article"):
        summarization.load(tmp_path / "empty.jsonl")
