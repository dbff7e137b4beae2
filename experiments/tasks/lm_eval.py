"""Any task of lm-evaluation-harness, with the very object whose speed and memory are measured."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.models import ModelFacts
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.evaluation.requests import Generated, GenerateRequest, Scored, ScoreRequest
from runtime_matrix.experiments.records.metric import Metric, figure, with_error
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.statistics.descriptive import standard_error
from runtime_matrix.experiments.tasks.bench import Bench, Figures, OpenEntry
from runtime_matrix.experiments.tasks.sampling import SAMPLE_OF, SampleOptions, sampled
from runtime_matrix.experiments.tasks.task import (
    QualityTask,
    Score,
    flips,
    percent_of_reference,
    rows_per_forward,
    same_texts,
)

if TYPE_CHECKING:
    from runtime_matrix.experiments.harness.samples import Item

_SCORE = Score(
    metric="lm_eval_score", prefix="lm_eval", noun="lm-eval", item_field="score", is_discrete=True, has_texts=True
)
_OF_TASK = "lm_eval_task_"
_BETWEEN = ":"  # a task and its metric
_ERROR = "_standard_error"


@dataclass(frozen=True, kw_only=True)
class LmEvalConfig(SampleOptions):
    """Options of `lm_eval`; `limit` is in documents per task, `sample` in all of them, lengths are in tokens."""

    tasks: tuple[str, ...]
    include_path: str | None
    num_fewshot: int | None = least(0)
    limit: int | None = least(1)
    apply_chat_template: bool
    max_gen_toks: int = least(1)
    max_length: int | None = least(2)
    add_bos_token: bool | None


class LmEval(QualityTask[LmEvalConfig]):
    """Runs tasks of lm-evaluation-harness through our evaluation core."""

    name = "lm_eval"
    title = "lm-eval"
    data = "tasks of lm-evaluation-harness, by name or as YAML of your own (extra `lm-eval`)"
    measures = "the metrics of each task with their standard errors, every sample"
    position = 92
    Config = LmEvalConfig
    deals_items = False  # lm-eval draws a document's examples after those of the documents before it
    score = _SCORE
    metrics = (
        Metric(
            key="lm_eval_score",
            title="lm-eval score",
            rank=3,
            better="high",
            display=with_error(3),
            read=figure("score"),
            error="score_standard_error",
            trend="lm-eval score",
            smallest_step=0.005,
            about="Mean over all samples of their task's first metric from 0 to 1; ± one standard error. "
            "Texts that are scored by likelihood alone count with their probability per byte; answers without a metric "
            "of their own, with exact match.",
        ),
        percent_of_reference(_SCORE, "lm-eval score"),
        flips(_SCORE, "lm-eval flips"),
        same_texts(_SCORE, "same lm-eval texts", "the texts of lm-eval's tasks"),
        rows_per_forward("lm_eval"),
    )

    @override
    def check(self, config: LmEvalConfig) -> None:
        if importlib.util.find_spec("lm_eval") is None:
            raise UserError("benchmark.lm_eval needs lm-eval: pip install 'runtime-matrix[lm-eval]'")

    @override
    def check_model(self, config: LmEvalConfig, facts: ModelFacts) -> None:
        if config.max_length is not None and config.max_length > (facts.max_length or config.max_length):
            raise UserError(f"benchmark.lm_eval.max_length={config.max_length} exceeds {facts.stated_length}")

    @override
    def check_data(self, config: LmEvalConfig) -> None:
        from runtime_matrix.experiments.harness.loading import load_tasks, task_manager

        if config.sample is None:
            load_tasks(task_manager(config.tasks, config.include_path), config.tasks)
        else:
            self._documents(config)

    @override
    def further_keys(self, entry: Entry) -> Sequence[str]:
        """Return one key per metric of each task or group that was asked for."""
        return [f"{_OF_TASK}{name}" for name in entry.figures if _BETWEEN in name and not name.endswith(_ERROR)]

    @override
    def further(self, key: str) -> Metric | None:
        """Return a metric of a task, which lm-eval computes."""
        name = key.removeprefix(_OF_TASK)
        if name == key or name.endswith(_ERROR):
            return None
        return Metric(
            key=key,
            title=name.replace(_BETWEEN, " "),
            rank=8,
            display=with_error(3),
            read=figure(name),
            error=f"{name}{_ERROR}",
            about=f"{name} of lm-evaluation-harness; ± one standard error.",
        )

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: LmEvalConfig, point: str) -> None:
        from runtime_matrix.experiments.harness.encoding import HarnessTokenizer
        from runtime_matrix.experiments.harness.evaluating import evaluate
        from runtime_matrix.experiments.harness.language_model import HarnessLM, HarnessOptions
        from runtime_matrix.experiments.harness.samples import items, scores_by_task

        bench.require_text()
        assert bench.tokenizer_folder is not None  # else `require_text` has skipped the benchmark
        answering = _BenchAnswering(bench)
        options = HarnessOptions(config.max_length, config.max_gen_toks)
        tokenizer = HarnessTokenizer(bench.tokenizer_folder, config.add_bos_token)
        model = HarnessLM(answering, tokenizer, bench.traits.max_length, options, bench.seed)
        documents = self._documents(config) if config.sample is not None else []
        indexes = _drawn(documents, config)
        chosen = (config.include_path, config.num_fewshot, config.limit, config.apply_chat_template)
        results = evaluate(model, config.tasks, *chosen, indexes)
        scores: list[float] = []
        bench.write_items(entry, _noting(items(results), scores))
        by_task = scores_by_task(results)
        entry.parameters = {
            **{"tasks": list(config.tasks), "num_fewshot": config.num_fewshot, "limit": config.limit},
            **({} if config.sample is None else {SAMPLE_OF: len(documents)}),
        }
        entry.figures = {
            "score": sum(scores) / len(scores),
            "score_standard_error": standard_error(scores),
            "items": len(scores),
            "cut_contexts": model.cut_contexts,
            **_flat(by_task, config.tasks),
            "by_task": by_task,
            "lm_eval_version": results["lm_eval_version"],
            **answering.figures,
        }

    def _documents(self, config: LmEvalConfig) -> list[_Document]:
        from runtime_matrix.experiments.harness.loading import document_counts, task_manager

        counts = document_counts(task_manager(config.tasks, config.include_path), config.tasks)
        if config.sample is not None and config.sample < len(counts):
            raise UserError(
                f"sample={config.sample} is less than the {len(counts)} tasks of benchmark.lm_eval: give more"
            )
        return [_Document(task, index) for task, count in counts.items() for index in range(count)]


TASK = LmEval()


@dataclass(frozen=True)
class _Document:
    """A document of one of lm-eval's tasks."""

    task: str
    index: int

    @property
    def id(self) -> str:
        return f"{self.task}:{self.index}"


def _drawn(documents: Sequence[_Document], config: LmEvalConfig) -> dict[str, list[int]] | None:
    """Return the indexes of the drawn documents by task; None without a sample."""
    if config.sample is None:
        return None
    indexes: dict[str, list[int]] = {}
    for document in sampled(documents, config, TASK.name, lambda document: document.task):
        indexes.setdefault(document.task, []).append(document.index)
    return indexes


@dataclass
class _BenchAnswering:
    """Answers with the runtime of the cell, and counts the work."""

    bench: Bench
    figures: Figures = field(default_factory=dict)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scored]:
        """Return one result per request, in their order."""
        scorer = self.bench.scorer(len(requests))
        scored = list(scorer.scores(requests))
        self._count(scorer.figures())
        return scored

    def generate(self, requests: Sequence[GenerateRequest], stop_ids: Sequence[int]) -> list[Generated]:
        """Return one text per request."""
        answers = self.bench.generated(requests, stop_ids)
        self._count(answers.figures)
        return [text for (text,) in answers.texts]

    def _count(self, figures: Figures) -> None:
        """Add the counts of one call; ratios and notes of several calls cannot be added."""
        for name, value in figures.items():
            if isinstance(value, int):
                before = self.figures.get(name)
                self.figures[name] = value + (before if isinstance(before, int) else 0)


def _noting(items: Iterator[Item], scores: list[float]) -> Iterator[JsonObject]:
    """Yield the items as JSON, and append their scores."""
    for item in items:
        scores.append(item.score)
        yield item.plain()


def _flat(by_task: Mapping[str, Mapping[str, float]], asked: Sequence[str]) -> Figures:
    """Return the metrics of the tasks and groups that were asked for; of all tasks where a tag was asked for."""
    chosen = [name for name in asked if name in by_task]
    if len(chosen) < len(asked):
        chosen = list(by_task)
    return {f"{task}{_BETWEEN}{name}": value for task in chosen for name, value in by_task[task].items()}
