"""Multiple choice by log-likelihood: scores all choices of a question; the likeliest is the answer."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import among, least
from runtime_matrix.experiments.evaluation.requests import Continuations, ScoreRequest, Tokenizer
from runtime_matrix.experiments.records.metric import Metric, figure, number, part, with_error
from runtime_matrix.experiments.statistics.descriptive import standard_error
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.choice_scores import NORMALISATIONS, Item, Verdict, judged, summarise
from runtime_matrix.experiments.tasks.formats.format import check_name
from runtime_matrix.experiments.tasks.questions import KIND, LETTERS, Question, QuestionSet, load
from runtime_matrix.experiments.tasks.sampling import SampleOptions, sampled
from runtime_matrix.experiments.tasks.task import (
    QualityTask,
    Score,
    Texts,
    flips,
    percent_of_reference,
    rows_per_forward,
)

SHOTS = "few_shot_examples"
_BETWEEN = "\n\n"
SUBMISSION = "submission.csv"
_UNSCORED = f"the questions of multiple_choice come without answers: {SUBMISSION} has the model's"
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
    format: str | None = None  # by content


class MultipleChoice(QualityTask[MultipleChoiceConfig]):
    """Scores the choices of questions, after few-shot examples of the same subject."""

    name = "multiple_choice"
    title = "multiple choice"
    data = (
        "Hendrycks' folders (MMLU), VMLU, VNHSGE, ARC, PIQA, BLiMP and TruthfulQA as published; CSV with or without a "
        "header, JSONL, JSON arrays"
    )
    measures = "accuracy, letters or texts, any number of shots; MC1 and MC2; sentence pairs"
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
        Metric(
            key="mcq_truth_mass",
            title="MC2",
            better="high",
            display=with_error(3),
            read=figure("truth_mass"),
            error="truth_mass_standard_error",
            about="Probability of the true answers among a question's true and false ones, 0 to 1: MC2 of TruthfulQA; "
            "± one standard error.",
        ),
        percent_of_reference(_SCORE, "accuracy"),
        flips(_SCORE, "flips", rank=3),
        rows_per_forward("mcq"),
    )

    @override
    def check(self, config: MultipleChoiceConfig) -> None:
        check_name(KIND, config.format, self.name)

    @override
    def check_data(self, config: MultipleChoiceConfig) -> None:
        self._questions(config)

    @override
    def texts(self, config: MultipleChoiceConfig) -> Mapping[str, Sequence[Texts]]:
        questions = self._questions(config)
        shots = [shot for shots in questions.shots_by_subject.values() for shot in shots[: config.shots]]
        own = [question.choices[:1] if questions.is_sentences else (question.text,) for question in questions.questions]
        texts: dict[str, Sequence[Texts]] = {self.name: own}
        return texts | ({SHOTS: [(shot.text,) for shot in shots]} if shots else {})

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: MultipleChoiceConfig, point: str) -> None:
        questions = self._questions(config)
        normalise = questions.normalise or config.normalise
        scorer = bench.scorer(sum(len(question.scored_texts) for question in questions.questions))
        requests = _Requests(bench, config, questions)
        by_rule: dict[str, list[Verdict]] = {rule: [] for rule in NORMALISATIONS}
        kept: list[Item] = []
        with bench.peak_memory(self.name) as peak:
            scored = scorer.scores(requests.all())
            items = judged(questions.questions, scored, normalise, by_rule)
            bench.write_items(entry, _keeping(items, kept, questions))
        if not questions.has_answers:
            write_submission(bench.folder / SUBMISSION, questions.questions, kept)
        entry.parameters = _parameters(config, questions, normalise)
        entry.figures = {
            **_figures(by_rule, normalise),
            **_truth_figures(kept),
            "unscored": None if questions.has_answers else _UNSCORED,
            "cut_contexts": requests.cut,
            "peak_host_bytes": peak.host_bytes,
            **scorer.figures(),
        }

    def _questions(self, config: MultipleChoiceConfig) -> QuestionSet:
        every = load(self.path(config), config.limit, config.shots, config.fields, config.format)
        if config.style == "letters" and (every.is_sentences or any(item.truths for item in every.questions)):
            raise UserError(
                f"benchmark.multiple_choice.style=letters: {every.format} is scored by the texts themselves: use "
                "style=texts"
            )
        questions = sampled(every.questions, config, self.name, lambda question: question.subject)
        return replace(every, questions=questions)


TASK = MultipleChoice()


def _keeping(items: Iterator[Item], kept: list[Item], questions: QuestionSet) -> Iterator[Item]:
    """Yield the items, and keep those from which figures besides accuracy are made."""
    for question, item in zip(questions.questions, items, strict=True):
        if question.answer is None or question.truths is not None:
            kept.append(item)
        yield item


def _parameters(config: MultipleChoiceConfig, questions: QuestionSet, normalise: str) -> JsonObject:
    return {
        "shots": 0 if questions.is_sentences else config.shots,
        "style": "sentences" if questions.is_sentences else config.style,
        "normalise": normalise,
        "format": questions.format,
        **({"left_out": dict(questions.left_out)} if questions.left_out else {}),
        **({} if questions.has_answers else {"submission_file": SUBMISSION}),
    }


def _figures(by_rule: Mapping[str, Sequence[Verdict]], normalise: str) -> JsonObject:
    verdicts, result = by_rule[normalise], summarise(by_rule[normalise])
    right = [verdict.is_right for verdict in verdicts if verdict.is_right is not None]
    subjects = [verdict.subject for verdict in verdicts]
    return {
        "accuracy": result.accuracy,
        "accuracy_by_normalisation": {rule: summarise(judged).accuracy for rule, judged in by_rule.items()},
        "standard_error": standard_error(right, subjects) if result.accuracy is not None else None,
        "items": result.items,
        "by_subject": result.by_subject,
        "tied_items": result.tied_items,
    }


def _truth_figures(items: Sequence[Item]) -> JsonObject:
    """Return the mean mass of true answers; empty for questions with one right choice."""
    masses = [(item.truth_mass, item.subject) for item in items if item.truth_mass is not None]
    if not masses:
        return {}
    values = [mass for mass, _ in masses]
    return {
        "truth_mass": sum(values) / len(values),
        "truth_mass_standard_error": standard_error(values, [subject for _, subject in masses]),
    }


def write_submission(path: Path, questions: Sequence[Question], items: Sequence[Item]) -> None:
    """Write the model's answers as `id,answer`, in the data's order: VMLU's submission format."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "answer"))
        writer.writerows(
            (item.id, question.label(item.predicted)) for question, item in zip(questions, items, strict=True)
        )
    temporary.replace(path)


class _Requests:
    """Builds the requests of all questions, a few questions at a time."""

    def __init__(self, bench: Bench, config: MultipleChoiceConfig, questions: QuestionSet):
        self._bench, self._text, self._config, self._questions = bench, bench.require_text(), config, questions
        self.cut = 0  # contexts that were truncated so far

    def all(self) -> Iterator[ScoreRequest]:
        """Yield one request per choice, question by question."""
        if self._questions.is_sentences:
            yield from self._sentences()
            return
        for start in range(0, len(self._questions.questions), _TOKENISED_AT_ONCE):
            questions = self._questions.questions[start : start + _TOKENISED_AT_ONCE]
            for requests, was_cut in self._text.continuations([self._prompt(question) for question in questions]):
                self.cut += was_cut
                yield from requests

    def _prompt(self, question: Question) -> Continuations:
        shots = self._questions.shots_by_subject.get(question.subject, [])[: self._config.shots]
        return prompt(question, shots, self._config.style)

    def _sentences(self) -> Iterator[ScoreRequest]:
        start = start_id(self._text, self._bench.eos_ids)
        if start is None:
            self._bench.skip("whole sentences are scored after a beginning- or end-of-text token; the model has none")
        assert start is not None
        for question in self._questions.questions:
            for sentence in question.choices:
                ids = (start, *self._text.encode(sentence))
                surplus = max(0, len(ids) - 1 - (self._text.max_length or len(ids)))  # the last token is never run
                self.cut += surplus > 0
                yield ScoreRequest(ids[: len(ids) - surplus], 1)


def start_id(text: Tokenizer, eos_ids: Sequence[int]) -> int | None:
    """Return the token before a text without context, as in lm-evaluation-harness: beginning of text, else its end."""
    return text.bos_id if text.bos_id is not None else next(iter(eos_ids), None)


def prompt(question: Question, shots: Sequence[Question], style: str) -> Continuations:
    """Return the context and one continuation per choice.

    Style `letters` is the prompt of Hendrycks et al. (MMLU) and scores letters; `texts` scores the choices' texts.
    """
    if style == "letters":
        head = f"The following are multiple choice questions (with answers) about {question.subject.replace('_', ' ')}."
        before = [head, *(f"{_lettered(shot)} {LETTERS[_right(shot)]}" for shot in shots)]
        query, endings = _lettered(question), [f" {LETTERS[index]}" for index in range(len(question.choices))]
    else:
        before = [f"{_plain(shot)} {shot.choices[_right(shot)]}" for shot in shots]
        query, endings = _plain(question), [f" {choice}" for choice in question.scored_texts]
    # The prefix ends before the empty line: a tokenizer may merge two line ends, but not the word before them.
    return Continuations(_BETWEEN.join(before), _BETWEEN + query if before else query, endings)


def _right(shot: Question) -> int:
    assert shot.answer is not None, "examples have answers: see `questions.load`"
    return shot.answer


def _plain(question: Question) -> str:
    return f"Question: {question.text}\nAnswer:"


def _lettered(question: Question) -> str:
    choices = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, question.choices, strict=False)]
    return "\n".join([question.text, *choices, "Answer:"])
