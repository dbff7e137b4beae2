"""Scores of SQuAD 2.0 against a second implementation of its script, and of languages other than English."""

from __future__ import annotations

import random
import re
import string
import unicodedata
from collections import Counter

import pytest

from runtime_matrix.experiments.tasks.formats.passages.question import Question
from runtime_matrix.experiments.tasks.language import CHINESE, ENGLISH, UNICODE, VIETNAMESE
from runtime_matrix.experiments.tasks.qa_scores import by_answerability, exact_match, f1, scored, summarise
from runtime_matrix.experiments.tasks.summarization import Rouge

REFUSAL = "unanswerable"


def script_words(text: str) -> list[str]:
    """Return the words as evaluate-v2.0.py normalizes them."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def script_scores(prediction: str, answers: list[str]) -> tuple[bool, float]:
    """Return exact match and F1 as evaluate-v2.0.py computes them for one question."""
    gold = [answer for answer in answers if script_words(answer)] or [""]
    predicted, f1s = script_words(prediction), []
    for words in map(script_words, gold):
        same = sum((Counter(words) & Counter(predicted)).values())
        if not words or not predicted:
            f1s.append(float(words == predicted))
        elif same == 0:
            f1s.append(0.0)
        else:
            precision, recall = same / len(predicted), same / len(words)
            f1s.append(2 * precision * recall / (precision + recall))
    return any(script_words(answer) == predicted for answer in gold), max(f1s)


def test_random_answers_score_as_squad_2_defines() -> None:
    rng, words = random.Random(0), ["the", "carp", "a", "rill", "Carp!", "...", "an", "stone"]
    for _ in range(400):
        answers = [" ".join(rng.choices(words, k=rng.randint(1, 3))) for _ in range(rng.randint(0, 3))]
        prediction = " ".join(rng.choices(words, k=rng.randint(0, 3)))
        question = Question("q", "c", "?", tuple(answers), may_refuse=True)
        score = scored(question, prediction, REFUSAL, ENGLISH)
        assert (score.is_right, score.f1) == pytest.approx(script_scores(prediction, answers))


@pytest.mark.parametrize(
    ("text", "is_refusal"),
    [("", True), ("Unanswerable.", True), (" …", True), ("unanswerable carp", False), ("carp", False)],
)
def test_a_refusal_is_no_answer(text: str, is_refusal: bool) -> None:
    language = UNICODE if "…" in text else ENGLISH
    with_answer, without = (Question("q", "c", "?", answers, may_refuse=True) for answers in (("carp",), ()))
    score = scored(without, text, REFUSAL, language)
    assert (score.is_refusal, score.is_right, score.f1) == (is_refusal, is_refusal, float(is_refusal))
    assert scored(with_answer, text, REFUSAL, language).is_right is (text == "carp")


def test_a_refusal_is_a_plain_text_in_version_1() -> None:
    score = scored(Question("q", "c", "?", (REFUSAL,)), REFUSAL, REFUSAL, ENGLISH)
    assert (score.is_right, score.f1, score.is_refusal) == (True, 1.0, None)


def test_figures_of_both_kinds_add_up_to_those_of_all() -> None:
    answers = [("carp",), ("red stone",), (), ()]
    questions = [Question(str(at), "c", "?", gold, may_refuse=True) for at, gold in enumerate(answers)]
    texts = ["carp", "stone", "carp", REFUSAL]
    scores = [scored(question, text, REFUSAL, ENGLISH) for question, text in zip(questions, texts, strict=True)]
    figures = by_answerability(questions, scores, [0, 1, 2, 3])
    assert (figures["has_answer_exact_match"], figures["has_answer_f1"]) == (50, pytest.approx(100 * (1 + 2 / 3) / 2))
    assert (figures["no_answer_exact_match"], figures["no_answer_f1"], figures["refusals"]) == (50, 50, 1)
    assert (figures["has_answer_items"], figures["no_answer_items"]) == (2, 2)
    total = summarise([score.is_right for score in scores], [score.f1 for score in scores])
    assert total.f1 == pytest.approx((figures["has_answer_f1"] + figures["no_answer_f1"]) / 2)
    assert by_answerability([Question("q", "c", "?", ("a",))], scores[:1], [0]) == {}
    only = by_answerability(questions[:1], scores[:1], [0])
    assert (only["no_answer_f1"], only["no_answer_items"]) == (None, 0)


SAME = [
    (VIETNAMESE, "Đà Nẵng mở hội nghị.", "Đà_Nẵng mở hội_nghị"),
    (VIETNAMESE, "Nghệ An là tỉnh lớn", unicodedata.normalize("NFD", "Nghệ An là tỉnh lớn")),
    (UNICODE, "“Nghệ An” là tỉnh lớn", "nghệ an là tỉnh lớn"),
    (CHINESE, "北京是中国的首都", "北京是中国的首都。"),
    (CHINESE, "東京 がある", unicodedata.normalize("NFD", "東京 がある")),
]
DIFFERENT = [
    (VIETNAMESE, "má mã mạ", "mả mà mẫ"),
    (VIETNAMESE, "bán cá khô", "bản cả khỏ"),
    (UNICODE, "an toàn", "nguy hiểm"),
    (CHINESE, "北京很大", "上海更小"),
]


@pytest.mark.parametrize(("language", "text", "other"), SAME)
def test_equal_texts_score_1_in_every_measure(language: str, text: str, other: str) -> None:
    assert exact_match(text, [other], language)
    assert f1(text, [other], language) == 1
    assert Rouge(language)(text, [other]) == {"rouge1": 1, "rouge2": 1, "rougeL": 1}


@pytest.mark.parametrize(("language", "text", "other"), DIFFERENT)
def test_disjoint_texts_score_0_in_every_measure(language: str, text: str, other: str) -> None:
    assert not exact_match(text, [other], language)
    assert f1(text, [other], language) == 0
    assert Rouge(language)(text, [other]) == {"rouge1": 0, "rouge2": 0, "rougeL": 0}


def test_no_article_is_dropped_outside_english() -> None:
    assert not exact_match("Nghệ", ["Nghệ An"], VIETNAMESE)
    assert exact_match("the carp", ["carp"], ENGLISH)
