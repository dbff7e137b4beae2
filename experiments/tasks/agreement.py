"""The logit check: compares logits with the reference's before any timing counts. Runs in every cell by default."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.schema import AgreementConfig
from runtime_matrix.experiments.records.metric import Metric, figure, number, quotient
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry, ReferenceBench
from runtime_matrix.experiments.tasks.task import Task

if TYPE_CHECKING:
    import torch

_LOGITS, _SAME_DTYPE, _CONTINUATIONS = "reference", "reference-same-dtype", "reference-continuations.json"


class Agreement(Task[AgreementConfig]):
    """Compares logits of a few prompts, with and without a cache, and along the reference's greedy continuations."""

    name = "agreement"
    title = "agreement"
    data = "a few fixed prompts"
    measures = "logits against the reference's"
    position = 200  # of its metrics
    first = True
    is_check = True
    Config = AgreementConfig
    metrics = (
        Metric(
            key="agreement_same_top_ratio",
            title="same top",
            group="agreement",
            rank=5,
            display=number("{:.1f} %", 100),
            read=figure("same_top_ratio"),
            about="Share of positions with the reference's top token, in the logit check before any timing.",
        ),
        Metric(
            key="agreement_max_logit_difference",
            title="max |Δ logit|",
            group="agreement",
            rank=6,
            display=number("{:.1e}"),
            read=figure("max_logit_difference"),
            about="Largest absolute difference between a logit and the reference's, in the logit check.",
        ),
        Metric(
            key="agreement_tied_ratio",
            title="tied",
            group="agreement",
            rank=8,
            display=number("{:.1f} %", 100),
            read=quotient("tied_positions", "positions"),
            is_warning=True,
            about="Share of positions in the logit check whose top token is exactly tied with another; the first one "
            "counts.",
        ),
    )

    @override
    def write_reference(self, bench: ReferenceBench, config: AgreementConfig) -> None:
        from runtime_matrix.experiments.evaluation import agreement

        self._keep_logits(bench, _LOGITS)
        prompts = agreement.continuation_prompts(config, bench.seed, bench.traits)
        agreement.write_continuations(bench.runtime, bench.traits, prompts, bench.folder / _CONTINUATIONS)

    @override
    def write_reference_in_own_dtype(self, bench: ReferenceBench) -> None:
        """Write the reference's logits in the cell's dtype, to separate rounding from the runtime's own error."""
        self._keep_logits(bench, _SAME_DTYPE)

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: AgreementConfig, point: str) -> None:
        from runtime_matrix.experiments.evaluation import agreement

        stored = bench.folder / f"{_LOGITS}.npz"
        if not stored.exists():
            bench.skip(bench.why_no_reference or "no reference was measured with this cell")
        runtime = bench.require_steps()
        prompts = agreement.prompts(bench.text, bench.traits, bench.seed)
        logits = agreement.prompt_logits(runtime, prompts, bench.traits)
        logits += agreement.stepped_logits(runtime, prompts, bench.traits)
        entry.figures.update(vars(agreement.compare(logits, agreement.read_logits(stored))))
        continuations = bench.folder / _CONTINUATIONS
        if continuations.exists():
            entry.figures.update(agreement.compare_continuations(runtime, bench.traits, continuations, bench.scoring))
        same_dtype = bench.folder / f"{_SAME_DTYPE}.npz"
        entry.figures["same_dtype"] = _same_dtype(bench, logits, same_dtype) if same_dtype.exists() else None

    def _keep_logits(self, bench: ReferenceBench, name: str) -> None:
        from runtime_matrix.experiments.evaluation import agreement

        prompts = agreement.prompts(bench.text, bench.traits, bench.seed)
        agreement.write_logits(agreement.prompt_logits(bench.runtime, prompts), bench.folder / f"{name}.npz")


def _same_dtype(bench: Bench, logits: list[torch.Tensor], stored: Path) -> JsonObject:
    """Return the agreement with the reference's engine in this runtime's dtype, with its title and dtype."""
    from runtime_matrix.experiments.evaluation import agreement

    comparison = agreement.compare(logits, agreement.read_logits(stored))
    return {"reference": bench.reference_config.title, "dtype": bench.runtime_config.dtype, **vars(comparison)}


TASK = Agreement()
