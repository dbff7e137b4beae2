"""Divergence: compares the full next-token distribution at each token of a text with the reference's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.models import ModelFacts
from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.evaluation.requests import ScoreRequest, Tokenizer
from runtime_matrix.experiments.records.metric import Metric, figure, hidden, number
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry, ReferenceBench
from runtime_matrix.experiments.tasks.perplexity import check_window, read_text, windows
from runtime_matrix.experiments.tasks.task import QualityTask

_FILE = "reference-distributions.npy"


@dataclass(frozen=True, kw_only=True)
class DivergenceConfig:
    """Options of `divergence`. `max_mib` limits the file of the reference's distributions."""

    data: str
    window: int = least(2)
    tokens: int = least(1)
    max_mib: int = least(1)


class Divergence(QualityTask[DivergenceConfig]):
    """Measures Kullback-Leibler divergence from the reference over the tokens of a text."""

    name = "divergence"
    title = "divergence"
    data = "a text file"
    measures = "KL divergence from the reference's distributions, its percentiles, same top token"
    position = 90
    temporary_files = (_FILE,)  # hundreds of megabytes
    Config = DivergenceConfig
    bundled = "perplexity.txt"
    metrics = (
        Metric(
            key="kl_mean",
            title="KL",
            unit="nats",
            group="agreement",
            rank=3,
            better="low",
            display=number("{:.1e}"),
            read=figure("kl_mean"),
            error="kl_standard_error",
            about="Kullback-Leibler divergence from the reference's next-token distribution, mean per token.",
        ),
        Metric(
            key="divergence_same_top_ratio",
            title="same top token",
            group="agreement",
            rank=6,
            display=number("{:.2f} %", 100),
            read=figure("same_top_ratio"),
            about="Share of positions with the reference's top token.",
        ),
        hidden("kl_p99", figure("kl_p99")),
    )

    @override
    def check_model(self, config: DivergenceConfig, facts: ModelFacts) -> None:
        check_window(self.name, config.window, facts)

    @override
    def check_data(self, config: DivergenceConfig) -> None:
        read_text(self.path(config), 1000)

    @override
    def write_reference(self, bench: ReferenceBench, config: DivergenceConfig) -> None:
        from runtime_matrix.experiments.evaluation import distributions

        if bench.text is not None:
            requests = self._windows(config, bench.text, bench.traits.vocabulary)
            budget = bench.scoring.token_budget or bench.traits.batch_tokens
            distributions.write_reference(bench.runtime, bench.traits, requests, bench.folder / _FILE, budget)

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: DivergenceConfig, point: str) -> None:
        from runtime_matrix.experiments.evaluation import distributions

        text, file, runtime = bench.require_text(), bench.folder / _FILE, bench.require_steps()
        if not file.exists():
            hint = "no reference was measured with this cell: set agreement.enabled=true"
            bench.skip(bench.why_no_reference or hint)
        requests = self._windows(config, text, bench.traits.vocabulary)
        budget = bench.scoring.token_budget or bench.traits.batch_tokens
        entry.parameters = {"window": config.window, "windows": len(requests)}
        entry.figures = vars(distributions.compare(runtime, bench.traits, requests, file, budget)).copy()

    def _windows(self, config: DivergenceConfig, text: Tokenizer, vocabulary: int) -> Sequence[ScoreRequest]:
        """Return as many windows as `tokens` and `max_mib` allow, at least one."""
        tokens = min(config.tokens, (config.max_mib << 20) // (4 * vocabulary))
        content = read_text(self.path(config), max_bytes=64 * config.tokens)
        all_windows = windows(text.encode(content), text.bos_id, config.window)
        return [
            ScoreRequest(window.ids, window.first_scored)
            for window in all_windows[: max(1, tokens // (config.window - 1))]
        ]


TASK = Divergence()
