"""Logits that are not finite are an error wherever they decide something; a padded vocabulary is none. Ties count."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typing_extensions import override

from runtime_matrix.experiments.config.schema import GenerationConfig
from runtime_matrix.experiments.evaluation import distributions
from runtime_matrix.experiments.evaluation.agreement import compare, prompt_logits
from runtime_matrix.experiments.evaluation.decoding import decode_batch
from runtime_matrix.experiments.evaluation.generation import GenerationReport, generate
from runtime_matrix.experiments.evaluation.prefix_cache import Tally
from runtime_matrix.experiments.evaluation.requests import GenerateRequest, ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import score
from runtime_matrix.experiments.evaluation.speculation import DraftModel
from runtime_matrix.experiments.execution.worker.token_budget import fit
from runtime_matrix.runtimes.base import LOGITS, Hardware, ModelSource, Outputs, Runtime, Traits
from runtime_matrix.runtimes.engines.fake import Fake

NAN, INF = math.nan, math.inf
PROMPT = (1, 2, 3)
FILE = "distributions.npy"


@dataclass
class Spoil:
    """Puts a value at an entry of every row of logits, or at all entries."""

    value: float
    entry: int | slice = 5

    def __call__(self, logits_BKV: torch.Tensor) -> torch.Tensor:
        logits_BKV[..., self.entry] = self.value
        return logits_BKV


class Spoiled(Fake):
    def __init__(self, spoil: Spoil):
        super().__init__(vocabulary=16)
        self._spoil = spoil

    @override
    def forward(
        self,
        ids_BT: torch.Tensor,
        lengths: Sequence[int],
        cache: Any = None,
        at_BK: torch.Tensor | None = None,
        *,
        outputs: frozenset[str] = LOGITS,
        contexts: Sequence[range] = (),
    ) -> Outputs:
        return Outputs(self._spoil(super().forward(ids_BT, lengths, cache, at_BK, outputs=outputs).logits_BKV))


def loaded(spoil: Spoil | None) -> tuple[Runtime, Traits]:
    runtime = Spoiled(spoil) if spoil is not None else Fake(vocabulary=16)
    return runtime, runtime.load(ModelSource("fake"), Hardware("cpu", 1), lambda _: nullcontext())


def use(job: str, spoil: Spoil, folder: Path) -> Any:
    runtime, traits = loaded(spoil)
    window = ScoreRequest((1, 2, 3, 4, 6), 1)
    match job:
        case "score":
            return score(runtime, traits, [ScoreRequest((1, 2, 3), 1)])
        case "decode":
            return decode_batch(runtime, traits, [list(PROMPT)], 3)
        case "generate" | "read late" | "sample":
            request = GenerateRequest(PROMPT, 4, temperature=1.0 if job == "sample" else 0.0)
            options = GenerationConfig(host_sync_interval=4 if job == "read late" else None)
            return generate(runtime, traits, [request], lambda ids: str, options=options)
        case "verify":
            good = DraftModel(*loaded(None), 2)
            return generate(runtime, traits, [GenerateRequest(PROMPT, 6)], lambda ids: str, drafter=good)
        case "draft":
            bad = DraftModel(runtime, traits, 2)
            return generate(*loaded(None), [GenerateRequest(PROMPT, 6)], lambda ids: str, drafter=bad)
        case "agree":
            return prompt_logits(runtime, [list(PROMPT)], traits)
        case "reference":
            return prompt_logits(runtime, [list(PROMPT)])
        case "diverge":
            distributions.write_reference(*loaded(None), [window], folder / FILE, 64)
            return distributions.compare(runtime, traits, [window], folder / FILE, 64)
        case "write":
            distributions.write_reference(runtime, traits, [window], folder / FILE, 64)
            return None
        case "fit":
            peaks = iter((1 << 20, 1 << 22))

            def peak_of(work: Callable[[], None]) -> int:
                work()
                return next(peaks)

            return fit(runtime, traits, 1 << 30, peak_of)
    raise ValueError(job)


JOBS = (
    "score",
    "decode",
    "generate",
    "read late",
    "sample",
    "verify",
    "draft",
    "agree",
    "reference",
    "diverge",
    "write",
    "fit",
)


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("job", JOBS)
def test_nan_and_infinite_logits_are_an_error(job: str, value: float, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"the runtime's logits are not finite \((NaN|[+-]inf)\) at "):
        use(job, Spoil(value), tmp_path)


@pytest.mark.parametrize("job", [job for job in JOBS if job not in ("diverge", "write")])
def test_a_row_of_minus_infinity_only_is_an_error(job: str, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="are not finite"):
        use(job, Spoil(-INF, slice(None)), tmp_path)


@pytest.mark.parametrize("job", [job for job in JOBS if job != "diverge"])
def test_a_padded_vocabulary_may_be_masked(job: str, tmp_path: Path) -> None:
    """The same entries may not be NaN: that they were looked at is what the second half shows."""
    use(job, Spoil(-INF, slice(12, None)), tmp_path)
    with pytest.raises(FloatingPointError, match="are not finite"):
        use(job, Spoil(NAN, slice(12, None)), tmp_path)


def test_a_scored_token_of_probability_0_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match=r"\(-inf\) at a scored token"):
        score(*loaded(Spoil(-INF, 9)), [ScoreRequest((1, 9), 1)])


def test_masked_entries_neither_differ_nor_diverge(tmp_path: Path) -> None:
    masked = torch.tensor([[1.0, 2.0, -INF]])
    assert compare([masked], [torch.tensor([[1.5, 2.0, -9.0]])]).max_logit_difference == 0.5
    runtime, traits = loaded(Spoil(-INF, slice(12, None)))
    window = ScoreRequest((1, 2, 3, 4, 6), 1)
    distributions.write_reference(runtime, traits, [window], tmp_path / FILE, 64)
    assert np.isinf(np.load(tmp_path / FILE)).any()
    assert distributions.compare(runtime, traits, [window], tmp_path / FILE, 64).kl_mean == 0
    distributions.write_reference(*loaded(None), [window], tmp_path / FILE, 64)
    with pytest.raises(FloatingPointError, match="the divergence is infinite"):
        distributions.compare(runtime, traits, [window], tmp_path / FILE, 64)


def test_exact_ties_are_counted() -> None:
    constant = Spoil(0.0, slice(None))
    tally = Tally()
    score(*loaded(constant), [ScoreRequest((1, 2, 3, 4), 1), ScoreRequest((1, 2, 3, 5), 3)], tally=tally)
    assert tally.figures()["tied_positions"] == 4
    report = GenerationReport()
    generate(*loaded(constant), [GenerateRequest(PROMPT, 2)] * 3, lambda ids: str, report=report)
    assert report.figures()["tied_first_tokens"] == 3
    found = prompt_logits(loaded(constant)[0], [list(PROMPT)])
    assert compare(found, found).tied_positions == len(PROMPT)


def test_no_ties_are_counted_without_ties() -> None:
    tally, report = Tally(), GenerationReport()
    score(*loaded(None), [ScoreRequest((1, 2, 3, 4), 1)], tally=tally)
    generate(*loaded(None), [GenerateRequest(PROMPT, 2)], lambda ids: str, report=report)
    found = prompt_logits(loaded(None)[0], [list(PROMPT)])
    assert (tally.tied_positions, report.tied_first, compare(found, found).tied_positions) == (0, 0, 0)
    assert Tally().figures()["tied_positions"] is None
