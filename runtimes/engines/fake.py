"""A runtime with scripted times, predictions and faults, for tests and for trying out a configuration.

After token t it predicts token (t + 1) modulo the vocabulary size, by a margin of 10 in the logits.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Sequence
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import (
    LOGITS,
    Hardware,
    ModelSource,
    Outputs,
    Phase,
    Runtime,
    Traits,
    Unsupported,
    check_outputs,
)
from runtime_matrix.runtimes.engines.positions import last_positions
from runtime_matrix.runtimes.engines.rewind import check_rewind

_MARGIN = 10.0
_MATRIX = torch.eye(128)
FAULTS = ("none", "segfault", "hang", "out_of_memory", "unsupported", "error", "not_finite")


class FakeCache:
    """Counts the tokens of each row and stores no tensors."""

    def __init__(self, lengths: list[int]):
        self.row_lengths = lengths

    @property
    def lengths(self) -> list[int]:
        """Tokens held by each row."""
        return list(self.row_lengths)

    def select(self, rows: Sequence[int]) -> FakeCache:
        """Return a copy of the given rows, in that order."""
        return FakeCache([self.row_lengths[row] for row in rows])

    def rewind(self, lengths: Sequence[int]) -> None:
        """Keep the first `lengths[b]` tokens of row b. ValueError where it holds fewer."""
        check_rewind(self.row_lengths, lengths)
        self.row_lengths = list(lengths)

    def replace(self, rows: Sequence[int], source: FakeCache) -> None:
        """Put row i of `source` in the place of row `rows[i]`."""
        for row, length in zip(rows, source.row_lengths, strict=True):
            self.row_lengths[row] = length


class Fake(Runtime):
    """A runtime without a model.

    `load_s` is the duration of loading, `token_s` that of each new token of the longest row, both in seconds. `work` is
    a number of matrix products per forward, which use processor time. `fault`, one of `FAULTS`, occurs in the first
    forward (`unsupported`: in `load`; `not_finite`: all logits become NaN) of more rows than `fault_rows`. Raises
    Unsupported for an unknown fault.
    """

    def __init__(
        self,
        dtype: str = "float32",
        vocabulary: int = 256,
        max_length: int = 1024,
        load_s: float = 0.0,
        token_s: float = 0.0,
        work: int = 0,
        fault: str = "none",
        fault_rows: int = 0,
    ):
        if fault not in FAULTS:
            raise Unsupported(f"runtime.engine.fault={fault} is unknown: use {', '.join(FAULTS)}")
        self._vocabulary, self._max_length = vocabulary, max_length
        self._load_s, self._token_s, self._fault = load_s, token_s, fault
        self._work, self._fault_rows = work, fault_rows

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        if self._fault == "unsupported":
            raise Unsupported("the fake runtime was told to be unsupported: set runtime.engine.fault=none")
        if (model.architecture or {}).get("vocab_size") is not None:
            self._vocabulary = int((model.architecture or {})["vocab_size"])
        torch.set_num_threads(hw.threads)  # more threads than cores would wait for each other in every product
        with phase("weights"):
            time.sleep(self._load_s)
        self._traits = Traits(
            self._vocabulary, self._max_length, "float32", weight_bytes=0, is_scripted=True, notes=("scripted answers",)
        )
        return self._traits

    @override
    def new_cache(self, rows: int, capacity: int) -> FakeCache:
        return FakeCache([0] * rows)

    @override
    def forward(
        self,
        ids_BT: torch.Tensor,
        lengths: Sequence[int],
        cache: FakeCache | None = None,
        at_BK: torch.Tensor | None = None,
        *,
        outputs: frozenset[str] = LOGITS,
        contexts: Sequence[range] = (),
    ) -> Outputs:
        check_outputs(outputs, self._traits)
        if len(lengths) > self._fault_rows:
            _cause(self._fault)
        time.sleep(self._token_s * max(lengths))
        for _ in range(self._work):
            torch.mm(_MATRIX, _MATRIX)
        at_BK = at_BK if at_BK is not None else last_positions(lengths)
        following_BK = (ids_BT.gather(1, at_BK) + 1) % self._vocabulary
        if cache is not None:
            cache.row_lengths = [old + new for old, new in zip(cache.row_lengths, lengths, strict=True)]
        margin = math.nan if self._fault == "not_finite" else _MARGIN
        return Outputs(torch.nn.functional.one_hot(following_BK, self._vocabulary).float() * margin)

    @override
    def synchronize(self) -> None:
        """Do nothing: all work is synchronous."""

    @override
    def close(self) -> None:
        """Do nothing: no resources are held."""


def _cause(fault: str) -> Any:
    """Cause the fault; `none`, `unsupported` and `not_finite` have no effect here."""
    if fault == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "hang":
        while True:
            time.sleep(3600)
    if fault == "out_of_memory":
        torch.empty(1 << 55)
    if fault == "error":
        raise RuntimeError("the fake runtime was told to fail")
