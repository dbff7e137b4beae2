"""Runtimes that cheat, or are slow in ways that are easy to miss: each must be found by a gate.

Most behave where answers are measured, and not where speed is.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import Hardware, ModelSource, Outputs, Phase, Traits
from runtime_matrix.runtimes.engines.eager import Eager


def is_timed() -> bool:
    """Say whether this process is one whose rounds are timed."""
    return "runtime_matrix.experiments.timing.worker" in sys.modules


class _Cheat(Eager):
    threads = 0

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        self.threads, self.is_timed = hw.threads, is_timed()
        self.traits = super().load(model, hw, phase, calibration_ids)
        return self.traits

    def zeros(self, ids_BT: torch.Tensor, lengths: Sequence[int], cache: Any, at_BK: Any) -> Outputs:
        if cache is not None:
            cache.row_lengths = [old + new for old, new in zip(cache.row_lengths, lengths, strict=True)]
        positions = 1 if at_BK is None else at_BK.shape[1]
        return Outputs(torch.zeros(len(lengths), positions, self.traits.vocabulary))


class Garbage(_Cheat):
    """Zeros where it is timed."""

    @override
    def forward(self, ids_BT: Any, lengths: Any, cache: Any = None, at_BK: Any = None, **more: Any) -> Outputs:
        if self.is_timed:
            return self.zeros(ids_BT, lengths, cache, at_BK)
        return super().forward(ids_BT, lengths, cache, at_BK, **more)


class Defeat(_Cheat):
    """Computes nothing at one thread."""

    @override
    def forward(self, ids_BT: Any, lengths: Any, cache: Any = None, at_BK: Any = None, **more: Any) -> Outputs:
        if self.threads == 1:
            return self.zeros(ids_BT, lengths, cache, at_BK)
        return super().forward(ids_BT, lengths, cache, at_BK, **more)


class Memo(_Cheat):
    """Remembers its outputs by all tokens so far."""

    @override
    def forward(self, ids_BT: Any, lengths: Any, cache: Any = None, at_BK: Any = None, **more: Any) -> Outputs:
        if not self.is_timed or cache is None or at_BK is not None:
            return super().forward(ids_BT, lengths, cache, at_BK, **more)
        known = self.__dict__.setdefault("_known", {})
        seen = (*getattr(cache, "seen", ()), *map(tuple, ids_BT.tolist()))
        cache.seen = seen
        if seen in known:
            cache.row_lengths = [old + new for old, new in zip(cache.row_lengths, lengths, strict=True)]
        else:
            known[seen] = super().forward(ids_BT, lengths, cache, at_BK, **more)
        outputs: Outputs = known[seen]
        return outputs


class Between(_Cheat):
    """Computes in a thread of its own whenever it is not asked for anything."""

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        traits = super().load(model, hw, phase, calibration_ids)
        self._idle = threading.Event()
        if self.is_timed:
            threading.Thread(target=self._compute, daemon=True).start()
        return traits

    @override
    def forward(self, ids_BT: Any, lengths: Any, cache: Any = None, at_BK: Any = None, **more: Any) -> Outputs:
        self._idle.clear()
        try:
            return super().forward(ids_BT, lengths, cache, at_BK, **more)
        finally:
            self._idle.set()

    def _compute(self) -> None:
        matrix = torch.ones(64, 64)
        while True:
            self._idle.wait()
            matrix @ matrix


class Lazy(_Cheat):
    """Leaves a part of each call's work for when the clock has stopped."""

    @override
    def forward(self, ids_BT: Any, lengths: Any, cache: Any = None, at_BK: Any = None, **more: Any) -> Outputs:
        start = time.perf_counter()
        outputs = super().forward(ids_BT, lengths, cache, at_BK, **more)
        if self.is_timed:
            self._left = getattr(self, "_left", 0.0) + 0.3 * (time.perf_counter() - start)
            self._calls = getattr(self, "_calls", 0) + 1
            threading.Timer(0.02, self._finish, (self._calls,)).start()
        return outputs

    def _finish(self, calls: int) -> None:
        if calls != self._calls:
            return  # it was called again meanwhile
        end, self._left = time.perf_counter() + self._left, 0.0
        while time.perf_counter() < end:
            sum(range(100))


class Late(_Cheat):
    """Each step takes twice as long once a row holds 72 tokens."""

    @override
    def forward(self, ids_BT: Any, lengths: Any, cache: Any = None, at_BK: Any = None, **more: Any) -> Outputs:
        start = time.perf_counter()
        outputs = super().forward(ids_BT, lengths, cache, at_BK, **more)
        if cache is not None and max(cache.lengths) > 72:
            end = 2 * time.perf_counter() - start
            while time.perf_counter() < end:
                sum(range(100))
        return outputs


class EarlyEnd(_Cheat):
    """Ends its texts early: from the eighth step on, the end of the text is the likeliest token."""

    @override
    def forward(self, ids_BT: Any, lengths: Any, cache: Any = None, at_BK: Any = None, **more: Any) -> Outputs:
        outputs = super().forward(ids_BT, lengths, cache, at_BK, **more)
        if cache is not None and ids_BT.shape[1] == 1:
            cache.steps = getattr(cache, "steps", 0) + 1
            if cache.steps >= 8:
                logits_BKV = outputs.logits_BKV.clone()
                logits_BKV[:, :, 2] = 1e4
                return Outputs(logits_BKV)
        return outputs


class NotANumber(_Cheat):
    """Weights that are not numbers."""

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        traits = super().load(model, hw, phase, calibration_ids)
        with torch.no_grad():
            next(self._model.module.parameters()).fill_(float("nan"))
        return traits


class Mislabelled(_Cheat):
    """Declares a quarter of the memory that its weights take."""

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        traits = super().load(model, hw, phase, calibration_ids)
        return dataclasses.replace(traits, weight_bytes=(traits.weight_bytes or 0) // 4)


class Sleeping(_Cheat):
    """Waits for half of each step's time."""

    @override
    def forward(self, ids_BT: Any, lengths: Any, cache: Any = None, at_BK: Any = None, **more: Any) -> Outputs:
        start = time.perf_counter()
        outputs = super().forward(ids_BT, lengths, cache, at_BK, **more)
        time.sleep(0.5 * (time.perf_counter() - start))
        return outputs
