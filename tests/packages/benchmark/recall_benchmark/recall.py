"""Recall: does a text contain the answer? JSON lines of a prompt and an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.evaluation.requests import Decoding, TextPrompt
from runtime_matrix.experiments.records.metric import Metric, figure, with_error
from runtime_matrix.experiments.statistics.descriptive import standard_error
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.sampling import SampleOptions, sampled
from runtime_matrix.experiments.tasks.task import QualityTask, Score, Texts, flips, percent_of_reference, same_texts

_SCORE = Score(metric="recall_share", prefix="recall", noun="recall", is_discrete=True, has_texts=True)


@dataclass(frozen=True, kw_only=True)
class RecallConfig(SampleOptions):
    data: str
    max_new_tokens: int = least(1)


@dataclass(frozen=True)
class Line:
    id: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class Item:
    id: str
    prompt: str
    text: str
    ids: tuple[int, ...]
    answers: list[str]
    is_right: bool


class Recall(QualityTask[RecallConfig]):
    """Whether generated texts contain the answer."""

    name = "recall"
    title = "recall"
    data = "JSON lines of prompt and answer"
    measures = "texts that contain the answer"
    Config = RecallConfig
    score = _SCORE
    metrics = (
        Metric(
            key="recall_share",
            title="recall",
            rank=2,
            better="high",
            display=with_error(2),
            read=figure("share"),
            error="share_error",
            trend="recall",
            smallest_step=0.01,
            about="Texts that contain the answer; ± one standard error.",
        ),
        percent_of_reference(_SCORE, "recall"),
        flips(_SCORE, "recall flips"),
        same_texts(_SCORE, "same recalls", "what was recalled"),
    )

    @override
    def check_data(self, config: RecallConfig) -> None:
        self._lines(config)

    @override
    def texts(self, config: RecallConfig) -> Mapping[str, Sequence[Texts]]:
        return {self.name: [(line.prompt,) for line in self._lines(config)]}

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: RecallConfig, point: str) -> None:
        lines = self._lines(config)
        prompts = [TextPrompt(line.id, line.prompt) for line in lines]
        answers = bench.answers(prompts, Decoding(config.max_new_tokens, ("\n",)))
        items = [
            Item(asked.id, asked.prompt, text.text, text.ids, [line.answer], line.answer in text.text)
            for line, asked, (text,) in zip(lines, prompts, answers.texts, strict=True)
        ]
        bench.write_items(entry, items)
        right = [item.is_right for item in items]
        entry.figures = {
            "share": sum(right) / len(right),
            "share_error": standard_error(right),
            "items": len(items),
            "new_tokens": sum(len(item.ids) for item in items),
            **answers.figures,
        }

    def _lines(self, config: RecallConfig) -> list[Line]:
        try:
            lines = [json.loads(line) for line in self.path(config).read_text(encoding="utf-8").splitlines()]
            read = [Line(f"recall-{n}", str(line["prompt"]), str(line["answer"])) for n, line in enumerate(lines)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"benchmark.recall.data={config.data} is no JSONL of prompt and answer: {error!r}"
            ) from error
        return sampled(read, config, self.name)


TASK = Recall()
