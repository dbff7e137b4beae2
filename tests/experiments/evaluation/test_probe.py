"""The probe of an honest runtime, and of runtimes whose outputs depend on the place of a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from typing_extensions import override

from runtime_matrix.experiments.evaluation.probe import probe
from runtime_matrix.runtimes.base import LOGITS, Hardware, ModelSource, Outputs, Phase, Runtime, Traits

VOCABULARY = 32


class Table(Runtime):
    """Gives each token its own logits; `by_place` adds the row's index to them."""

    def __init__(self, by_place: float = 0.0):
        self.by_place = by_place
        self.rows: list[int] = []

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        raise NotImplementedError

    @override
    def new_cache(self, rows: int, capacity: int) -> Any:
        self.rows.append(rows)

    @override
    def forward(
        self,
        ids_BT: Any,
        lengths: Any,
        cache: Any = None,
        at_BK: Any = None,
        *,
        outputs: frozenset[str] = LOGITS,
        contexts: Any = (),
    ) -> Outputs:
        table = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(0))
        logits_B1V = table[ids_BT[:, -1]][:, None].clone()
        logits_B1V[:, :, 0] += self.by_place * torch.arange(len(ids_BT))[:, None]
        return Outputs(logits_B1V)

    @override
    def synchronize(self) -> None: ...

    @override
    def close(self) -> None: ...


def traits(max_batch: int | None = None) -> Traits:
    return Traits(vocabulary=VOCABULARY, max_length=None, dtype="float32", weight_bytes=0, max_batch=max_batch)


def test_the_same_runtime_answers_the_same_in_any_process() -> None:
    first, second = (probe(Table(), traits(), 4, (5, 7)) for _ in range(2))
    assert first == second
    assert len(first.logprobs) == len(first.top_tokens) == 4 * 3  # after the prompt and after two given tokens
    assert first.row_order_ratio == pytest.approx(0.0, abs=1e-6)


def test_outputs_that_depend_on_the_place_are_measured() -> None:
    assert (probe(Table(by_place=2.0), traits(), 4, (5, 7)).row_order_ratio or 0) > 0.5


def test_a_runtime_that_takes_one_row_has_no_order() -> None:
    runtime = Table()
    single = probe(runtime, traits(max_batch=1), 8, (5, 7))
    assert (single.rows, single.row_order_ratio, runtime.rows) == (1, None, [1])
