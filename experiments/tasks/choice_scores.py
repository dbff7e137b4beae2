"""Verdicts on scored choices: the likeliest choice, the mass of true answers, and their means over questions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from runtime_matrix.experiments.evaluation.requests import Scored
from runtime_matrix.experiments.tasks.formats.choices.question import Question, Truths

NORMALISATIONS = ("bytes", "tokens", "none")  # the length that divides a choice's log-probability


@dataclass(frozen=True, slots=True)
class Verdict:
    """The model's answer to one question; `predicted` is the index of a choice."""

    subject: str
    predicted: int
    is_right: bool | None  # None: the right choice is not known
    is_tied: bool = False  # another choice has exactly the same score; the first of them counts


@dataclass(frozen=True)
class Item:
    """One line of the items file: a question and its scores."""

    id: str
    subject: str
    question: str
    choices: tuple[str, ...]
    answer: int | None
    predicted: int
    is_right: bool | None
    logprobs: list[float]  # per choice, in nats
    lengths: list[int]  # per choice, divides its log-probability
    truth_mass: float | None = None  # of a question with several right answers, 0 to 1


@dataclass(frozen=True)
class ChoiceScore:
    """Accuracy, 0 to 1, over all questions and by subject; None where the right choices are not known."""

    accuracy: float | None
    items: int
    by_subject: dict[str, float]
    tied_items: int = 0


def judged(
    questions: Sequence[Question], scored: Iterator[Scored], normalise: str, by_rule: Mapping[str, list[Verdict]]
) -> Iterator[Item]:
    """Yield one item per question as soon as its choices are scored, judged by `normalise`.

    Appends the verdict of each normalisation to `by_rule`: all use the same log-probabilities.
    """
    for question in questions:
        texts = question.scored_texts
        results = list(islice(scored, len(texts)))
        choices = results[: len(question.choices)]  # of `scored_texts`, the choices come first
        logprobs = [choice.total for choice in choices]
        lengths = _lengths(question.choices, [len(choice.logprobs) for choice in choices])
        for rule, verdicts in by_rule.items():
            verdicts.append(score(question, logprobs, rule, lengths[rule]))
        verdict = by_rule[normalise][-1]
        totals = dict(zip(texts, (result.total for result in results), strict=True))
        yield Item(
            id=question.id,
            subject=question.subject,
            question=question.text,
            choices=question.choices,
            answer=question.answer,
            predicted=verdict.predicted,
            is_right=verdict.is_right,
            logprobs=logprobs,
            lengths=lengths[normalise],
            truth_mass=truth_mass(question.truths, totals) if question.truths is not None else None,
        )


def score(question: Question, logprobs: Sequence[float], normalise: str, lengths: Sequence[int]) -> Verdict:
    """Return the verdict for the choice with the highest log-probability, divided by its length unless `none`."""
    scores = [
        logprob if normalise == "none" else logprob / max(1, length)
        for logprob, length in zip(logprobs, lengths, strict=True)
    ]
    predicted = max(range(len(scores)), key=scores.__getitem__)
    is_tied = scores.count(scores[predicted]) > 1
    is_right = None if question.answer is None else predicted == question.answer
    return Verdict(question.subject, predicted, is_right, is_tied)


def truth_mass(truths: Truths, logprobs: Mapping[str, float]) -> float:
    """Return the probability of the true answers among all of them, 0 to 1: MC2 (Lin et al. 2022)."""
    totals = [logprobs[answer] for answer in truths.answers]
    highest = max(totals)
    weights = [math.exp(total - highest) for total in totals]
    true = sum(weight for weight, is_true in zip(weights, truths.is_true, strict=True) if is_true)
    return true / sum(weights)


def summarise(verdicts: Sequence[Verdict]) -> ChoiceScore:
    """Return accuracy, overall and by subject, and the number of ties."""
    ties = sum(verdict.is_tied for verdict in verdicts)
    right = [verdict.is_right for verdict in verdicts if verdict.is_right is not None]
    if len(right) < len(verdicts):
        return ChoiceScore(None, len(verdicts), {}, ties)
    subjects: dict[str, list[bool]] = {}
    for verdict, is_right in zip(verdicts, right, strict=True):
        subjects.setdefault(verdict.subject, []).append(is_right)
    by_subject = {name: sum(group) / len(group) for name, group in subjects.items()}
    return ChoiceScore(sum(right) / len(right), len(right), by_subject, ties)


def _lengths(choices: tuple[str, ...], tokens: list[int]) -> dict[str, list[int]]:
    """Return the divisors of the choices' log-probabilities, by normalisation."""
    return {
        "none": [1] * len(choices),
        "bytes": [max(1, len(choice.encode())) for choice in choices],
        "tokens": tokens,
    }
