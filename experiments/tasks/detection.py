"""Detection of unsupported responses from a model's own attentions and feed-forward networks (ReDeEP, Sun et al. 2024,
arXiv 2410.11414): the detector is fitted on one half of the responses and judged on the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import Rule, among, least
from runtime_matrix.experiments.detector.errors import DetectionError
from runtime_matrix.experiments.detector.setting import Setting
from runtime_matrix.experiments.records.metric import (
    NOT_INTERLEAVED,
    Metric,
    Reader,
    figure,
    hidden,
    number,
    with_interval,
)
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.tasks import detection_scores
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.detection_chunks import ChunkedSet, chunk_all
from runtime_matrix.experiments.tasks.detection_data import Response, ResponseSet, load
from runtime_matrix.experiments.tasks.sampling import SampleOptions, sampled
from runtime_matrix.experiments.tasks.score_kinds import AUC
from runtime_matrix.experiments.tasks.task import QualityTask, Score, Texts, percent_of_reference

_SCORE = Score(metric="detection_auc", prefix="detection", noun="detection AUC", item_field="response_score", kind=AUC)
_DISPLAY = with_interval("{:.3f}")
_NLL = "the mean negative log-likelihood of the tokens"
_HALVES = "Detectors are fitted on one half of the responses and judged on the other; the mean of both halves."


class Threshold(str):
    """The rule of the threshold: 0.5, which may be written as a number, or f1."""

    @classmethod
    def build_plain(cls, value: object, where: str) -> str:
        """Return the rule as text. A hook of `validate.build`, with its UserErrors."""
        if str(value) not in ("0.5", "f1"):
            raise UserError(f"{where}={value} is unknown; known: 0.5, f1")
        return str(value)


@dataclass(frozen=True, kw_only=True)
class DetectionConfig(SampleOptions):
    """Options of `detection`; `limit` is in responses, `max_tokens` counts a prompt with its response."""

    data: str
    model: str | None
    split: str | None
    max_tokens: int | None = least(2)
    heads: str = among("auc", "mutual_information", "random", "fixed")
    fixed_heads: tuple[str, ...] = Rule(may_be_empty=True).field()
    top_heads: int = least(1)
    top_layers: int = least(1)
    alpha: float = least(0)
    m: float = least(0)
    search: str = among("none", "grid")
    ensemble: int = least(1)
    threshold: Threshold
    limit: int | None = least(1)

    def setting(self, seed: int) -> Setting:
        """Return the detector's options; `seed` is that of random heads. DetectionError if they contradict."""
        names = ("heads", "fixed_heads", "top_heads", "top_layers", "alpha", "m", "search", "ensemble", "threshold")
        options: JsonObject = {name: getattr(self, name) for name in names}
        return Setting(seed=seed, **options)


def _interval(key: str, title: str, name: str, about: str, rank: int = 7) -> tuple[Metric, ...]:
    """Return the metric of a figure with an interval, and those of its ends."""
    metric = Metric(key=key, title=title, rank=rank, display=_DISPLAY, read=figure(name), about=about)
    return metric, *_ends(key, name)


def _ends(key: str, name: str) -> tuple[Metric, ...]:
    return tuple(hidden(f"{key}{end}", figure(f"{name}{end}")) for end in ("_low", "_high"))


def _per_minute(count: str, seconds: str) -> Reader:
    def read(entry: Entry) -> float | None:
        done, duration_s = entry.figure(count), entry.figure(seconds)
        return 60 * done / duration_s if done and duration_s else None

    return read


def _peak(entry: Entry) -> float | None:
    device = entry.figure("peak_device_bytes")
    return entry.figure("peak_host_bytes") if device is None else device


class Detection(QualityTask[DetectionConfig]):
    """Judges responses by the scores of their tokens, and how well these tell unsupported ones from supported ones."""

    name = "detection"
    title = "detection"
    data = "RAGTruth's JSON lines, or JSON lines with prompt, response and labelled spans"
    measures = "AUC of unsupported responses by attentions and feed-forward networks (ReDeEP), held out; baselines"
    position = 85
    Config = DetectionConfig
    bundled = "detection.jsonl"
    score = _SCORE
    metrics = (
        Metric(
            key="detection_auc",
            title="detection AUC",
            rank=2,
            better="high",
            display=_DISPLAY,
            read=figure("auc"),
            error="auc_standard_error",
            trend="detection AUC",
            smallest_step=0.005,
            about="Area under the ROC curve of the scores of unsupported responses, 0.5 is chance; 95 % interval over "
            f"sources. {_HALVES}",
        ),
        *_ends("detection_auc", "auc"),
        hidden("detection_responses", figure("responses")),
        percent_of_reference(_SCORE, "detection AUC"),
        *_interval(
            "detection_auc_in_sample",
            "AUC in sample",
            "auc_in_sample",
            "Detection AUC of a detector that is judged on the responses it was fitted on: too high, for comparison.",
            rank=6,
        ),
        *_interval(
            "detection_nll_auc",
            "NLL AUC",
            "mean_nll_auc",
            "Detection AUC of the mean negative log-likelihood per token.",
        ),
        *_interval("detection_length_auc", "length AUC", "length_auc", "Detection AUC of the length in characters."),
        *_interval("detection_chunk_auc", "chunk AUC", "chunk_auc", f"Detection AUC over sentences. {_HALVES}"),
        *_interval(
            "detection_average_precision",
            "detection AP",
            "average_precision",
            f"Average precision of finding unsupported responses. {_HALVES}",
        ),
        *_interval("detection_f1", "detection F1", "f1", f"F1 of finding unsupported responses. {_HALVES}"),
        *_interval(
            "detection_pearson", "detection r", "pearson", f"Pearson's correlation of scores and labels. {_HALVES}"
        ),
        Metric(
            key="detection_samples_per_min",
            title="detection",
            unit="samples/min",
            group="throughput",
            rank=6,
            display=number("{:,.0f}"),
            read=_per_minute("computed_responses", "compute_s"),
            about=f"Responses scored per minute; cached and repeated ones do not count. {NOT_INTERLEAVED}",
        ),
        Metric(
            key="detection_fits_per_min",
            title="detector",
            unit="responses/min",
            group="throughput",
            rank=8,
            display=number("{:,.0f}"),
            read=_per_minute("responses", "fit_s"),
            about=f"Responses per minute of fitting the detector on each half and judging the other. {NOT_INTERLEAVED}",
        ),
        Metric(
            key="detection_peak_bytes",
            title="detection peak",
            unit="MiB",
            group="memory",
            rank=8,
            display=number("{:,.0f}", 2**-20),
            read=_peak,
            is_of_machine=True,
            about="Peak memory while responses are scored, on the device if there is one: above its level before "
            "loading.",
        ),
    )

    @override
    def check(self, config: DetectionConfig) -> None:
        try:
            config.setting(seed=0)
        except DetectionError as error:
            raise UserError(f"benchmark.detection: {error}") from error

    @override
    def check_data(self, config: DetectionConfig) -> None:
        self._data(config)

    @override
    def texts(self, config: DetectionConfig) -> Mapping[str, Sequence[Texts]]:
        return {self.name: [(response.prompt,) for response in self._data(config).responses]}

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: DetectionConfig, point: str) -> None:
        text, data = bench.require_text(), self._data(config)
        fitting = chunk_all(text, data.responses, config.max_tokens)
        entry.parameters = _parameters(config)
        entry.figures = _counts(data, fitting)
        if not fitting.chunked:
            bench.skip(f"none of {len(data.responses)} responses fits the limit of tokens: raise max_tokens")
        observer = bench.observer(len(fitting.chunked))
        with bench.peak_memory(self.name) as peak:
            observed = observer.observe(response.request for response in fitting.chunked)
            parts = detection_scores.collected(fitting.chunked, observed)
        scores = detection_scores.all_scores(fitting.chunked, parts)
        try:
            judgement = detection_scores.judge(scores, config.setting(bench.seed), bench.seed)
        except DetectionError as error:
            bench.skip(str(error))
            raise
        bench.write_items(entry, detection_scores.item_lines(fitting.chunked, parts, scores, judgement.result))
        entry.figures |= {
            **detection_scores.figures(scores, judgement),
            "items": len(scores.responses),
            "peak_host_bytes": peak.host_bytes,
            "peak_device_bytes": peak.device_bytes,
            **observer.figures(),
        }

    @override
    def respond(self, bench: Bench, entry: OpenEntry, config: DetectionConfig, point: str) -> None:
        """Observe the responses; a detector needs responses of both kinds, which a part may lack."""
        fitting = chunk_all(bench.require_text(), self._data(config).responses, config.max_tokens)
        if not fitting.chunked:
            bench.skip("no response of this part fits the limit of tokens")
        observer = bench.observer(len(fitting.chunked))
        with bench.peak_memory(self.name) as peak:
            observed = observer.observe(response.request for response in fitting.chunked)
            bench.write_items(entry, ({"tokens": len(part.logprobs_T)} for part in observed))
        entry.figures = {
            "peak_host_bytes": peak.host_bytes,
            "peak_device_bytes": peak.device_bytes,
            **observer.figures(),
        }

    def _data(self, config: DetectionConfig) -> ResponseSet:
        data = load(self.path(config), config.model, config.split, config.limit)
        return ResponseSet(sampled(data.responses, config, self.name, _label), data.left_out)


TASK = Detection()


def _label(response: Response) -> str:
    return "unsupported" if response.is_unsupported else "supported"


def _parameters(config: DetectionConfig) -> JsonObject:
    names = ("model", "split", "max_tokens", "heads", "top_heads", "top_layers", "alpha", "m", "search", "ensemble")
    return {**{name: getattr(config, name) for name in names}, "threshold": str(config.threshold)}


def _counts(data: ResponseSet, fitting: ChunkedSet) -> JsonObject:
    left_out = {**data.left_out, **fitting.left_out}
    return {
        "left_out_responses": sum(left_out.values()),
        "left_out": left_out,
        "cut_contexts": fitting.cut_contexts,
        "cut_context_tokens": fitting.cut_tokens,
    }
