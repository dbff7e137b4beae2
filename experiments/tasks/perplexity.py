"""Perplexity of a text per token and per byte: cuts the text into windows and computes the figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from runtime_matrix.experiments.config import data_files
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.models import ModelFacts
from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.evaluation.requests import ScoreRequest
from runtime_matrix.experiments.records.metric import Metric, figure, hidden, with_error
from runtime_matrix.experiments.tasks import overlap
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.sampling import SAMPLE_OF, SampleOptions, sampled
from runtime_matrix.experiments.tasks.score_kinds import PERPLEXITY
from runtime_matrix.experiments.tasks.task import QualityTask, Score, Texts, percent_of_reference, rows_per_forward

_SCORE = Score(metric="perplexity", prefix="perplexity", noun="perplexity", kind=PERPLEXITY)


@dataclass(frozen=True, kw_only=True)
class PerplexityConfig(SampleOptions):
    """Options of `perplexity`. `window` and `stride` are in tokens, `limit` and `sample` in windows."""

    data: str
    max_bytes: int | None = least(1)
    window: int = least(2)
    stride: int | None = least(1)
    limit: int | None = least(1)


class Perplexity(QualityTask[PerplexityConfig]):
    """Scores a text in windows."""

    name = "perplexity"
    title = "perplexity"
    data = "a text file"
    measures = "perplexity per token and per byte; disjoint windows or a stride"
    position = 40
    Config = PerplexityConfig
    bundled = "perplexity.txt"
    score = _SCORE
    metrics = (
        Metric(
            key="perplexity",
            title="perplexity",
            rank=2,
            better="low",
            display=with_error(3),
            read=figure("perplexity"),
            error="standard_error",
            trend="perplexity",
            smallest_step=0.005,
            about="Perplexity of the text per token; ± one standard error. In disjoint windows the first tokens have "
            "little context, which raises perplexity equally for all runtimes; benchmark.perplexity.stride gives each "
            "token more context.",
        ),
        percent_of_reference(_SCORE, "perplexity"),
        hidden("perplexity_per_byte", figure("per_byte")),
        rows_per_forward("perplexity"),
    )

    @override
    def check(self, config: PerplexityConfig) -> None:
        if config.stride is not None and config.stride >= config.window:
            raise UserError(
                f"benchmark.perplexity.stride={config.stride} must be less than window={config.window}: it is "
                f"the number of tokens scored per window; {config.window // 2} is usual"
            )

    @override
    def check_model(self, config: PerplexityConfig, facts: ModelFacts) -> None:
        check_window(self.name, config.window, facts)

    @override
    def check_data(self, config: PerplexityConfig) -> None:
        read_text(self.path(config), config.max_bytes)

    @override
    def texts(self, config: PerplexityConfig) -> Mapping[str, Sequence[Texts]]:
        return {self.name: overlap.paragraphs(read_text(self.path(config), config.max_bytes))}

    @override
    def count(self, config: PerplexityConfig) -> int | None:
        return None  # the windows depend on the tokenizer

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: PerplexityConfig, point: str) -> None:
        text = bench.require_text()
        content = read_text(self.path(config), config.max_bytes)
        all_windows = windows(text.encode(content), text.bos_id, config.window, config.stride)[: config.limit]
        selected = sampled(all_windows, config, self.name)
        scorer = bench.scorer(len(selected))
        scored = list(scorer.scores(ScoreRequest(window.ids, window.first_scored) for window in selected))
        scored_ids = [token for window in selected for token in window.ids[window.first_scored :]]
        is_whole = config.limit is None and len(selected) == len(all_windows)
        n_bytes = len(content.encode()) if is_whole else len(text.decode(scored_ids).encode())
        figures = summarise([list(result.logprobs) for result in scored], n_bytes)
        bench.write_items(
            entry,
            (
                {"window": window.index, "tokens": len(result.logprobs), "logprob": result.total}
                for window, result in zip(selected, scored, strict=True)
            ),
        )
        entry.parameters = {
            "window": config.window,
            "stride": config.stride or config.window - 1,
            "windows": len(selected),
            "window_rule": rule(text.bos_id, config.stride),
            **({} if config.sample is None else {SAMPLE_OF: len(all_windows)}),
        }
        entry.figures = {
            "perplexity": figures.perplexity,
            "standard_error": figures.standard_error,
            "per_byte": figures.per_byte_perplexity,
            "tokens": figures.tokens,
            "bytes": n_bytes,
            **scorer.figures(),
        }


TASK = Perplexity()


def check_window(name: str, window: int, facts: ModelFacts) -> None:
    """Raise UserError for windows that exceed the model's context."""
    limit = facts.max_length
    if limit is not None and window > limit:
        raise UserError(
            f"benchmark.{name}.window={window} exceeds {facts.stated_length}: use benchmark.{name}.window={limit}"
        )


@dataclass(frozen=True)
class Window:
    """Token ids of one window and which of them are scored."""

    ids: tuple[int, ...]
    first_scored: int  # index into `ids`; the tokens before it are context
    index: int  # within the text

    @property
    def id(self) -> str:
        """Return the name of the window, for `sample`."""
        return str(self.index)


@dataclass(frozen=True)
class PerplexityScore:
    """The figures of a scored text."""

    perplexity: float
    standard_error: float | None  # over windows; None for a single one
    per_byte_perplexity: float
    tokens: int
    nats: float  # total negative log-likelihood


def read_text(path: Path, max_bytes: int | None = None) -> str:
    """Return the text or its first `max_bytes`, without a character that is cut in two; UserError if it is empty."""
    content = data_files.read_text(path, "a text file").encode()
    text = content[:max_bytes].decode(errors="ignore")
    if not text.strip():
        raise UserError(f"{path} is empty; give a text file")
    return text


def windows(ids: Sequence[int], bos_id: int | None, length: int, stride: int | None = None) -> list[Window]:
    """Return windows of at most `length` tokens, beginning-of-text token included, that score each token once.

    Each window scores `stride` tokens and the others are context. None scores all, so windows are disjoint. Without a
    beginning-of-text token the text's first token is context only.
    """
    first = () if bos_id is None else (bos_id,)
    capacity = length - len(first)
    done = 0 if first else 1  # the first scored token needs one token of context
    step = min(stride or capacity - done, capacity - done)
    result: list[Window] = []
    while done < len(ids):
        end = min(len(ids), done + step)
        context = min(done, capacity - (end - done)) if stride else (0 if first else 1)
        result.append(Window((*first, *ids[done - context : end]), len(first) + context, len(result)))
        done = end
    return result


def rule(bos_id: int | None, stride: int | None) -> str:
    """Describe the context of the first scored token of a window. Records contain this text."""
    first = "the text's token before it" if bos_id is None else "a beginning-of-text token"
    if stride is None:
        return f"disjoint windows, each behind {first}"
    return f"windows that overlap, each behind {first} and the tokens that the stride leaves as context"


def summarise(logprobs: Sequence[Sequence[float]], n_bytes: int) -> PerplexityScore:
    """Return the figures of log-probabilities per window. The error is a ratio estimator's, clustered by window."""
    tokens = sum(len(window) for window in logprobs)
    nats = -sum(sum(window) for window in logprobs)
    mean = nats / tokens
    error = None
    if len(logprobs) > 1:
        residuals = [-sum(window) - mean * len(window) for window in logprobs]
        correction = len(logprobs) / (len(logprobs) - 1)
        error = math.exp(mean) * math.sqrt(correction * sum(r * r for r in residuals)) / tokens
    return PerplexityScore(math.exp(mean), error, math.exp(nats / n_bytes), tokens, nats)
