"""Prediction of a passage's last word, as in LAMBADA: accuracy of the greedy word, and its perplexity.

As in lm-evaluation-harness, the word is what follows the last space, with the space before it. It is right if each of
its tokens is the likeliest one after the tokens before it. Perplexity is per word: exp of the mean of -log p(word).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from typing_extensions import override

from runtime_matrix.experiments.config import data_files
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.evaluation.requests import Continuations, Scored
from runtime_matrix.experiments.records.metric import Metric, figure, with_error
from runtime_matrix.experiments.statistics.descriptive import standard_error
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import check_name, chosen
from runtime_matrix.experiments.tasks.formats.last_words.passage import WANTED, Passage
from runtime_matrix.experiments.tasks.sampling import SampleOptions, sampled
from runtime_matrix.experiments.tasks.task import (
    QualityTask,
    Score,
    Texts,
    flips,
    percent_of_reference,
    rows_per_forward,
)

_KIND = "last_words"
_SCORE = Score(metric="last_word_accuracy", prefix="last_word", noun="last words", is_discrete=True)


@dataclass(frozen=True, kw_only=True)
class LastWordConfig(SampleOptions):
    """Options of `last_word`; `limit` is in passages."""

    data: str
    limit: int | None = least(1)
    format: str | None = None  # by content


class LastWord(QualityTask[LastWordConfig]):
    """Scores the last word of passages."""

    name = "last_word"
    title = "last word"
    data = "LAMBADA's JSON lines, or a text file with one passage per line (bundled: the text of `perplexity`)"
    measures = "accuracy of the greedy last word, perplexity per word"
    position = 45
    Config = LastWordConfig
    bundled = "perplexity.txt"
    score = _SCORE
    metrics = (
        Metric(
            key="last_word_accuracy",
            title="last word",
            rank=2,
            better="high",
            display=with_error(3),
            read=figure("accuracy"),
            error="standard_error",
            trend="last word accuracy",
            smallest_step=0.005,
            about="Share of passages whose last word greedy decoding continues exactly; ± one standard error.",
        ),
        Metric(
            key="last_word_perplexity",
            title="last word perplexity",
            better="low",
            display=with_error(2),
            read=figure("perplexity"),
            error="perplexity_standard_error",
            about="Perplexity of the last words, per word and not per token; ± one standard error.",
        ),
        percent_of_reference(_SCORE, "last word"),
        flips(_SCORE, "last word flips"),
        rows_per_forward("last_word"),
    )

    @override
    def check(self, config: LastWordConfig) -> None:
        check_name(_KIND, config.format, self.name)

    @override
    def check_data(self, config: LastWordConfig) -> None:
        self._passages(config)

    @override
    def texts(self, config: LastWordConfig) -> Mapping[str, Sequence[Texts]]:
        return {self.name: [(f"{passage.context} {passage.word}",) for passage in self._passages(config)]}

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: LastWordConfig, point: str) -> None:
        passages = self._passages(config)
        scorer = bench.scorer(len(passages))
        contexts = [Continuations("", passage.context, [f" {passage.word}"]) for passage in passages]
        requests, were_cut = zip(*bench.require_text().continuations(contexts), strict=True)
        results = list(scorer.scores(request for (request,) in requests))
        items = [_item(passage, result) for passage, result in zip(passages, results, strict=True)]
        bench.write_items(entry, items)
        right = [item.is_right for item in items]
        perplexity, error = perplexity_of([item.logprob for item in items])
        entry.figures = {
            "accuracy": sum(right) / len(right),
            "standard_error": standard_error(right),
            "perplexity": perplexity,
            "perplexity_standard_error": error,
            "items": len(items),
            "cut_contexts": sum(were_cut),
            **scorer.figures(),
        }

    def _passages(self, config: LastWordConfig) -> list[Passage]:
        return sampled(load(self.path(config), config.limit, config.format), config, self.name)


TASK = LastWord()


@dataclass(frozen=True)
class Item:
    """One line of the items file: a passage's last word and its score."""

    id: str
    prompt: str
    answer: str
    is_right: bool
    logprob: float  # of the whole word, in nats
    tokens: int  # of the word


def load(path: Path, limit: int | None = None, format_name: str | None = None) -> list[Passage]:
    """Read passages in any known format; UserError gives the line of one that is too short."""
    content = Content(path, WANTED)
    passages: list[Passage] = chosen(_KIND, content, format_name, "last_word").read(content)
    if not passages:
        raise UserError(f"{path} holds no passage; give {WANTED}")
    data_files.check_unique((passage.id for passage in passages), path)
    return passages[:limit]


def perplexity_of(logprobs: Sequence[float]) -> tuple[float, float | None]:
    """Return exp of the mean of -log p, and its standard error by the delta method; None for a single word."""
    nats = -np.asarray(logprobs)
    perplexity = math.exp(float(nats.mean()))
    if len(nats) < 2:
        return perplexity, None
    return perplexity, perplexity * float(nats.std(ddof=1)) / math.sqrt(len(nats))


def _item(passage: Passage, result: Scored) -> Item:
    is_greedy = all(margin <= 0 for margin in result.top1_margins)
    return Item(passage.id, passage.context, passage.word, is_greedy, result.total, len(result.logprobs))
