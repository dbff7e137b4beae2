"""Multiple choice by log-likelihood: scores all choices of a question; the likeliest is the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from typing_extensions import override

from runtime_matrix.experiments.config.validate import among, least
from runtime_matrix.experiments.evaluation.requests import Continuations, Scored, ScoreRequest, Tokenizer
from runtime_matrix.experiments.records.metric import Metric, figure, number, part, with_error
from runtime_matrix.experiments.statistics.descriptive import standard_error
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.questions import LETTERS, Question, QuestionSet, load
from runtime_matrix.experiments.tasks.sampling import SampleOptions, sampled
from runtime_matrix.experiments.tasks.task import (
    QualityTask,
    Score,
    Texts,
    flips,
    percent_of_reference,
    rows_per_forward,
)

NORMALISATIONS = ("bytes", "tokens", "none")  # the length that divides a choice's log-probability
SHOTS = "few_shot_examples"
_BETWEEN = "\n\n"
_TOKENISED_AT_ONCE = 16  # questions with all their choices; more are no faster and take tens of megabytes
_SCORE = Score(metric="mcq_accuracy", prefix="mcq", noun="multiple choice", is_discrete=True)


@dataclass(frozen=True, kw_only=True)
class MultipleChoiceConfig(SampleOptions):
    """Options of `multiple_choice`; `limit` is in questions, `shots` in examples per question."""

    data: str
    fields: dict[str, str] | None
    shots: int = least(0)
    style: str = among("texts", "letters")
    normalise: str = among(*NORMALISATIONS)
    limit: int | None = least(1)


class MultipleChoice(QualityTask[MultipleChoiceConfig]):
    """Scores the choices of questions, after few-shot examples of the same subject."""

    name = "multiple_choice"
    title = "multiple choice"
    data = "Hendrycks' folders (MMLU), CSV with or without a header, JSONL, JSON arrays; choices as on the Hub too"
    measures = "accuracy, letters or texts, any number of shots"
    position = 50
    Config = MultipleChoiceConfig
    bundled = "multiple_choice"
    score = _SCORE
    metrics = (
        Metric(
            key="mcq_accuracy",
            title="choice accuracy",
            rank=1,
            better="high",
            display=with_error(3),
            read=figure("accuracy"),
            error="standard_error",
            trend="choice accuracy",
            smallest_step=0.005,  # one answer of 200
            about="Accuracy of multiple choice, 0 to 1; ± one standard error, clustered by subject.",
        ),
        Metric(
            key="mcq_accuracy_unnormalised",
            title="choice acc",
            display=number("{:.3f}"),
            read=part("accuracy_by_normalisation", "none"),
            about="Multiple-choice accuracy by log-probability, not normalized: acc of lm-evaluation-harness.",
        ),
        Metric(
            key="mcq_accuracy_per_byte",
            title="choice acc_norm",
            display=number("{:.3f}"),
            read=part("accuracy_by_normalisation", "bytes"),
            about="Multiple-choice accuracy by log-probability per byte: acc_norm of lm-evaluation-harness.",
        ),
        percent_of_reference(_SCORE, "accuracy"),
        flips(_SCORE, "flips", rank=3),
        rows_per_forward("mcq"),
    )

    @override
    def check_data(self, config: MultipleChoiceConfig) -> None:
        self._questions(config)

    @override
    def texts(self, config: MultipleChoiceConfig) -> Mapping[str, Sequence[Texts]]:
        questions = self._questions(config)
        shots = [shot for shots in questions.shots_by_subject.values() for shot in shots[: config.shots]]
        texts: dict[str, Sequence[Texts]] = {self.name: [(question.text,) for question in questions.questions]}
        return texts | ({SHOTS: [(shot.text,) for shot in shots]} if shots else {})

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: MultipleChoiceConfig, point: str) -> None:
        questions = self._questions(config)
        scorer = bench.scorer(sum(len(question.choices) for question in questions.questions))
        requests = _Requests(bench.require_text(), config, questions)
        by_rule: dict[str, list[Verdict]] = {rule: [] for rule in NORMALISATIONS}
        with bench.peak_memory(self.name) as peak:
            scored = scorer.scores(requests.all())
            bench.write_items(entry, _items(questions.questions, scored, config.normalise, by_rule))
        verdicts = by_rule[config.normalise]
        result = summarise(verdicts)
        right, subjects = [verdict.is_right for verdict in verdicts], [verdict.subject for verdict in verdicts]
        entry.parameters = {"shots": config.shots, "style": config.style, "normalise": config.normalise}
        entry.figures = {
            "accuracy": result.accuracy,
            "accuracy_by_normalisation": {rule: summarise(judged).accuracy for rule, judged in by_rule.items()},
            "standard_error": standard_error(right, subjects),
            "items": result.items,
            "by_subject": result.by_subject,
            "tied_items": result.tied_items,
            "cut_contexts": requests.cut,
            "peak_host_bytes": peak.host_bytes,
            **scorer.figures(),
        }

    def _questions(self, config: MultipleChoiceConfig) -> QuestionSet:
        all_questions = load(self.path(config), config.limit, config.shots, config.fields)
        questions = sampled(all_questions.questions, config, self.name, lambda question: question.subject)
        return replace(all_questions, questions=questions)


TASK = MultipleChoice()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The model's answer to one question; `predicted` is the index of a choice."""

    subject: str
    predicted: int
    is_right: bool
    is_tied: bool = False  # another choice has exactly the same score; the first of them counts


@dataclass(frozen=True)
class Item:
    """One line of the items file: a question and its scores."""

    id: str
    subject: str
    question: str
    choices: tuple[str, ...]
    answer: int
    predicted: int
    is_right: bool
    logprobs: list[float]  # per choice, in nats
    lengths: list[int]  # per choice, divides its log-probability


@dataclass(frozen=True)
class ChoiceScore:
    """Accuracy, 0 to 1, over all questions and by subject."""

    accuracy: float
    items: int
    by_subject: dict[str, float]
    tied_items: int = 0


def _items(
    questions: Sequence[Question], scored: Iterator[Scored], normalise: str, by_rule: Mapping[str, list[Verdict]]
) -> Iterator[Item]:
    """Yield one item per question as soon as its choices are scored, judged by `normalise`.

    Appends the verdict of each normalisation to `by_rule`: all use the same log-probabilities.
    """
    for question in questions:
        choices = list(islice(scored, len(question.choices)))
        logprobs = [choice.total for choice in choices]
        lengths = _lengths(question.choices, [len(choice.logprobs) for choice in choices])
        for rule, verdicts in by_rule.items():
            verdicts.append(score(question, logprobs, rule, lengths[rule]))
        verdict = by_rule[normalise][-1]
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
        )


class _Requests:
    """Builds the requests of all questions, a few questions at a time."""

    def __init__(self, text: Tokenizer, config: MultipleChoiceConfig, questions: QuestionSet):
        self._text, self._config, self._questions = text, config, questions
        self.cut = 0  # contexts that were truncated so far

    def all(self) -> Iterator[ScoreRequest]:
        """Yield one request per choice, question by question."""
        for start in range(0, len(self._questions.questions), _TOKENISED_AT_ONCE):
            questions = self._questions.questions[start : start + _TOKENISED_AT_ONCE]
            for requests, was_cut in self._text.continuations([self._prompt(question) for question in questions]):
                self.cut += was_cut
                yield from requests

    def _prompt(self, question: Question) -> Continuations:
        shots = self._questions.shots_by_subject.get(question.subject, [])[: self._config.shots]
        return prompt(question, shots, self._config.style)


def _lengths(choices: tuple[str, ...], tokens: list[int]) -> dict[str, list[int]]:
    """Return the divisors of the choices' log-probabilities, by normalisation."""
    return {
        "none": [1] * len(choices),
        "bytes": [max(1, len(choice.encode())) for choice in choices],
        "tokens": tokens,
    }


def prompt(question: Question, shots: Sequence[Question], style: str) -> Continuations:
    """Return the context and one continuation per choice.

    Style `letters` is the prompt of Hendrycks et al. (MMLU) and scores letters; `texts` scores the choices' texts.
    """
    if style == "letters":
        head = f"The following are multiple choice questions (with answers) about {question.subject.replace('_', ' ')}."
        before = [head, *(f"{_lettered(shot)} {LETTERS[shot.answer]}" for shot in shots)]
        query, endings = _lettered(question), [f" {LETTERS[index]}" for index in range(len(question.choices))]
    else:
        before = [f"{_plain(shot)} {shot.choices[shot.answer]}" for shot in shots]
        query, endings = _plain(question), [f" {choice}" for choice in question.choices]
    # The prefix ends before the empty line: a tokenizer may merge two line ends, but not the word before them.
    return Continuations(_BETWEEN.join(before), _BETWEEN + query if before else query, endings)


def score(question: Question, logprobs: Sequence[float], normalise: str, lengths: Sequence[int]) -> Verdict:
    """Return the verdict for the choice with the highest log-probability, divided by its length unless `none`."""
    scores = [
        logprob if normalise == "none" else logprob / max(1, length)
        for logprob, length in zip(logprobs, lengths, strict=True)
    ]
    predicted = max(range(len(scores)), key=scores.__getitem__)
    is_tied = scores.count(scores[predicted]) > 1
    return Verdict(question.subject, predicted, predicted == question.answer, is_tied)


def summarise(verdicts: Sequence[Verdict]) -> ChoiceScore:
    """Return accuracy, overall and by subject, and the number of ties."""
    right = [verdict.is_right for verdict in verdicts]
    accuracy = sum(right) / len(right)
    subjects: dict[str, list[bool]] = {}
    for verdict in verdicts:
        subjects.setdefault(verdict.subject, []).append(verdict.is_right)
    by_subject = {name: sum(group) / len(group) for name, group in subjects.items()}
    return ChoiceScore(accuracy, len(right), by_subject, sum(verdict.is_tied for verdict in verdicts))


def _plain(question: Question) -> str:
    return f"Question: {question.text}\nAnswer:"


def _lettered(question: Question) -> str:
    choices = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, question.choices, strict=False)]
    return "\n".join([question.text, *choices, "Answer:"])
