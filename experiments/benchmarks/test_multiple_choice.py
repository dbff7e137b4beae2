"""Multiple choice by log-likelihood: all choices of a question are scored, the likeliest is the answer."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from runtime_matrix.experiments.benchmarks.plugin import Bench, OpenEntry
from runtime_matrix.experiments.benchmarks.scoring import Scoring
from runtime_matrix.experiments.cells.data import data_path
from runtime_matrix.experiments.config import MultipleChoiceConfig
from runtime_matrix.experiments.core.scoring import Scored, ScoreRequest
from runtime_matrix.experiments.core.text import Asked, Text
from runtime_matrix.experiments.measurement.statistics import standard_error
from runtime_matrix.experiments.tasks import multiple_choice

_TOKENISED_AT_ONCE = 16  # questions, with all their choices: more gain nothing, and hold tens of megabytes


def test_multiple_choice(bench: Bench, entry: OpenEntry) -> None:
    asked, text = bench.cell.config.benchmark.multiple_choice, bench.require_text()
    assert asked is not None
    found = multiple_choice.load(data_path("multiple_choice", asked.data), asked.limit, asked.shots, asked.fields)
    scoring = Scoring(bench, sum(len(question.choices) for question in found.questions))
    requests = _Requests(text, asked, found)
    path = bench.items_path("multiple_choice")
    with bench.meter.phase("multiple_choice"):
        by_rule = _judge(found.questions, scoring.scores(requests.all()), asked.normalise, path)
    verdicts = by_rule[asked.normalise]
    result = multiple_choice.summarise(verdicts)
    entry.items_file = path.name
    entry.parameters = {"shots": asked.shots, "style": asked.style, "normalise": asked.normalise}
    entry.figures = {
        "accuracy": result.accuracy,
        "accuracy_by_normalisation": {
            rule: multiple_choice.summarise(judged).accuracy for rule, judged in by_rule.items()
        },
        "standard_error": standard_error([one.is_right for one in verdicts], [one.subject for one in verdicts]),
        "items": result.items,
        "by_subject": result.by_subject,
        "tied_items": result.tied_items,
        "cut_contexts": requests.cut,
        "peak_host_bytes": bench.meter.peaks_bytes["multiple_choice"],
        **scoring.figures(),
    }


def _judge(
    questions: Sequence[multiple_choice.Question], scored: Iterator[Scored], normalise: str, path: Path
) -> dict[str, list[multiple_choice.Verdict]]:
    """Write a line a question as soon as its choices are scored, judged by `normalise`; return the verdicts of each
    rule, since all are of the same log-probabilities."""
    verdicts: dict[str, list[multiple_choice.Verdict]] = {rule: [] for rule in multiple_choice.NORMALISATIONS}
    with open(path, "w", encoding="utf-8") as file:
        for question in questions:
            mine = list(islice(scored, len(question.choices)))
            logprobs = [one.total for one in mine]
            lengths = _lengths(question.choices, [len(one.logprobs) for one in mine])
            for rule, judged in verdicts.items():
                judged.append(multiple_choice.score(question, logprobs, rule, lengths[rule]))
            verdict = verdicts[normalise][-1]
            item = multiple_choice.Item(
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
            file.write(json.dumps(vars(item)) + "\n")
    return verdicts


class _Requests:
    """Makes the requests of all questions, some questions at a time."""

    def __init__(self, text: Text, asked: MultipleChoiceConfig, found: multiple_choice.QuestionSet):
        self._text, self._asked, self._found = text, asked, found
        self.cut = 0

    def all(self) -> Iterator[ScoreRequest]:
        for start in range(0, len(self._found.questions), _TOKENISED_AT_ONCE):
            questions = self._found.questions[start : start + _TOKENISED_AT_ONCE]
            for made, was_cut in self._text.continuations([self._ask(question) for question in questions]):
                self.cut += was_cut
                yield from made

    def _ask(self, question: multiple_choice.Question) -> Asked:
        shots = self._found.shots_by_subject.get(question.subject, [])[: self._asked.shots]
        prompt = multiple_choice.prompt(question, shots, self._asked.style)
        return Asked(prompt.prefix, prompt.stem, prompt.endings)


def _lengths(choices: tuple[str, ...], tokens: list[int]) -> dict[str, list[int]]:
    """Return what a choice's log-probability is divided by, by rule."""
    return {
        "none": [1] * len(choices),
        "bytes": [max(1, len(choice.encode())) for choice in choices],
        "tokens": tokens,
    }
