"""Runtimes that cheat, or are slow in ways that are easy to miss: each must be found by the audit or by a gate.

Most behave where answers are measured, and not where speed is.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import Hardware, ModelSource, Outputs, Phase, Traits
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.weights.rounded import round_to_nearest


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


class Constant(_Cheat):
    """Emits the same token in every timed round, after real work."""

    @override
    def forward(self, ids_BT: Any, lengths: Any, cache: Any = None, at_BK: Any = None, **more: Any) -> Outputs:
        outputs = super().forward(ids_BT, lengths, cache, at_BK, **more)
        if not self.is_timed:
            return outputs
        logits_BKV = outputs.logits_BKV.clone()
        logits_BKV[:, :, 9] = 1e4
        return Outputs(logits_BKV)


class EightBits(_Cheat):
    """Times weights of 8 bits, and scores those in float32."""

    bits = 8

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        traits = super().load(model, hw, phase, calibration_ids)
        if self.is_timed:
            for part in self._model.module.modules():
                if isinstance(part, torch.nn.Linear):
                    part.weight.data = round_to_nearest(part.weight.data, self.bits)
        return traits


class ThreeBits(EightBits):
    """Times weights of 3 bits."""

    bits = 3


class KnownPrefix(_Cheat):
    """Keeps the state after each prompt, and skips the prefill of one that it has seen."""

    @override
    def forward(self, ids_BT: Any, lengths: Any, cache: Any = None, at_BK: Any = None, **more: Any) -> Outputs:
        if not self.is_timed or cache is None or at_BK is not None or ids_BT.shape[1] == 1:
            return super().forward(ids_BT, lengths, cache, at_BK, **more)
        known = self.__dict__.setdefault("_known", {})
        key = tuple(map(tuple, ids_BT.tolist()))
        rows = list(range(len(lengths)))
        if key in known:
            state, outputs = known[key]
            cache.replace(rows, state)
        else:
            outputs = super().forward(ids_BT, lengths, cache, at_BK, **more)
            known[key] = cache.select(rows), outputs
        kept: Outputs = outputs
        return kept


class AfterTheLast(_Cheat):
    """Does a part of its work once it has not been called for 0.1 s."""

    @override
    def forward(self, ids_BT: Any, lengths: Any, cache: Any = None, at_BK: Any = None, **more: Any) -> Outputs:
        outputs = super().forward(ids_BT, lengths, cache, at_BK, **more)
        if self.is_timed:
            self._called = time.monotonic()
            if not hasattr(self, "_worker"):
                self._worker = threading.Thread(target=self._finish, daemon=True)
                self._worker.start()
        return outputs

    def _finish(self) -> None:
        while True:
            time.sleep(0.02)
            called = self._called
            if time.monotonic() - called > 0.1:
                end = time.perf_counter() + 0.1
                while time.perf_counter() < end and called == self._called:
                    sum(range(100))


class Orphan(_Cheat):
    """Computes all the time in a process whose parent has ended."""

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        traits = super().load(model, hw, phase, calibration_ids)
        if self.is_timed:
            spin = "import time\nend = time.time() + 60\nwhile time.time() < end: pass"
            start = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {spin!r}])"
            subprocess.run([sys.executable, "-c", start], check=True)
        return traits


class MoreThreads(_Cheat):
    """Computes with twice the threads that it was given."""

    @override
    def forward(self, ids_BT: Any, lengths: Any, cache: Any = None, at_BK: Any = None, **more: Any) -> Outputs:
        torch.set_num_threads(2 * self.threads)
        return super().forward(ids_BT, lengths, cache, at_BK, **more)


class HalfThreads(_Cheat):
    """Computes with half of the threads that it was given."""

    @override
    def forward(self, ids_BT: Any, lengths: Any, cache: Any = None, at_BK: Any = None, **more: Any) -> Outputs:
        torch.set_num_threads(max(1, self.threads // 2))
        return super().forward(ids_BT, lengths, cache, at_BK, **more)


class Helper(_Cheat):
    """Computes a part of each call in a thread of its own, also where it was given one thread."""

    @override
    def forward(self, ids_BT: Any, lengths: Any, cache: Any = None, at_BK: Any = None, **more: Any) -> Outputs:
        helper = threading.Thread(target=_compute, args=(ids_BT.numel(),))
        helper.start()
        outputs = super().forward(ids_BT, lengths, cache, at_BK, **more)
        helper.join()
        return outputs


def _compute(tokens: int) -> None:
    end = time.perf_counter() + 1e-3 + 5e-5 * tokens
    while time.perf_counter() < end:
        sum(range(1000))


class Sorted(_Cheat):
    """Sorts the rows of a batch by their first token where answers are scored, and never puts them back."""

    @override
    def forward(self, ids_BT: Any, lengths: Any, cache: Any = None, at_BK: Any = None, **more: Any) -> Outputs:
        outputs = super().forward(ids_BT, lengths, cache, at_BK, **more)
        if self.is_timed or len(ids_BT) == 1:
            return outputs
        return Outputs(outputs.logits_BKV[ids_BT[:, 0].argsort()])


class ByPlace(_Cheat):
    """Scales the logits by the row's place in its batch; the most likely tokens stay the same."""

    @override
    def forward(self, ids_BT: Any, lengths: Any, cache: Any = None, at_BK: Any = None, **more: Any) -> Outputs:
        outputs = super().forward(ids_BT, lengths, cache, at_BK, **more)
        scale_B = 1 + 0.2 * torch.arange(len(ids_BT))
        return Outputs(outputs.logits_BKV * scale_B[:, None, None])
