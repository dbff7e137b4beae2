"""Exact match and F1 of answers to questions about passages, as the scripts of SQuAD v1.1 and 2.0 define them.

Answers are lower-cased, stripped of punctuation and articles, and compared with each gold answer; the best counts. The
right answer to an unanswerable question is the empty text. For other languages than English see `language.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.statistics.descriptive import percent_standard_error
from runtime_matrix.experiments.tasks.formats.passages.question import Question
from runtime_matrix.experiments.tasks.language import answer_words


@dataclass(frozen=True)
class QAScore:
    """The means over all questions."""

    exact_match: float  # 0 to 100, as SQuAD's script prints it
    f1: float  # 0 to 100
    items: int


@dataclass(frozen=True)
class AnswerScore:
    """The score of one answer."""

    is_right: bool
    f1: float  # 0 to 1
    is_refusal: bool | None  # None: no question of the set may be refused


def scored(question: Question, text: str, refusal: str, language: str) -> AnswerScore:
    """Return the score of a text; where questions may be refused, the refusal and an empty text are no answer."""
    if not question.may_refuse:
        return AnswerScore(exact_match(text, question.answers, language), f1(text, question.answers, language), None)
    words = answer_words(text, language)
    is_refusal = not words or words == answer_words(refusal, language)
    prediction = "" if is_refusal else text
    # As in SQuAD 2.0's script: gold answers without a word do not count, and without any the empty text is right.
    gold = [answer for answer in question.answers if answer_words(answer, language)] or [""]
    return AnswerScore(exact_match(prediction, gold, language), f1(prediction, gold, language), is_refusal)


def exact_match(prediction: str, answers: Sequence[str], language: str) -> bool:
    """Return whether the words equal those of any gold answer."""
    words = answer_words(prediction, language)
    return any(words == answer_words(answer, language) for answer in answers)


def f1(prediction: str, answers: Sequence[str], language: str) -> float:
    """Return the harmonic mean of word precision and recall, 0 to 1, for the best gold answer."""
    words = answer_words(prediction, language)
    return max(_f1(words, answer_words(answer, language)) for answer in answers)


def summarise(exact: Sequence[bool], f1s: Sequence[float]) -> QAScore:
    """Return the means. Standard errors are computed elsewhere, since they depend on shared passages."""
    return QAScore(100.0 * sum(exact) / len(exact), 100.0 * sum(f1s) / len(f1s), len(exact))


def by_answerability(
    questions: Sequence[Question], scores: Sequence[AnswerScore], clusters: Sequence[int]
) -> JsonObject:
    """Return the figures of answerable and of unanswerable questions (HasAns and NoAns of SQuAD 2.0).

    Empty for a set without unanswerable questions; None where one of the two kinds has no question.
    """
    if not any(question.may_refuse for question in questions):
        return {}
    figures: JsonObject = {"refusals": sum(bool(score.is_refusal) for score in scores)}
    for kind, has_answer in (("has_answer", True), ("no_answer", False)):
        chosen = [index for index, question in enumerate(questions) if bool(question.answers) is has_answer]
        exact, f1s = [scores[index].is_right for index in chosen], [scores[index].f1 for index in chosen]
        result = summarise(exact, f1s) if chosen else None
        figures |= {
            f"{kind}_exact_match": result.exact_match if result is not None else None,
            f"{kind}_f1": result.f1 if result is not None else None,
            f"{kind}_f1_standard_error": percent_standard_error(f1s, [clusters[index] for index in chosen]),
            f"{kind}_items": len(chosen),
        }
    return figures


def _f1(predicted: Sequence[str], gold: Sequence[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)  # an answer of punctuation alone
    shared = sum((Counter(predicted) & Counter(gold)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(gold)
    return 2 * precision * recall / (precision + recall)
