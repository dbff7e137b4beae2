"""Slowdowns of known size, injected into a runtime to test comparisons and gates."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.runtimes.base import LOGITS

KINDS = ("compute", "sleep", "disk", "threads", "child", "rare", "late", "build", "unlucky_build")
CONFIRM = "-confirm-"  # in the name of an artifacts folder that a gate builds to confirm a fail
_RARE_STEPS = 0.02  # share of slow steps
_LATE_FROM = 72  # tokens per row, beyond which steps are slow
_SPIN = "import sys, time\nfor line in sys.stdin:\n end = time.perf_counter() + float(line)\n while time.perf_counter() < end: pass\n print(flush=True)"  # noqa: E501


@dataclass(frozen=True)
class Injection:
    """A slowdown: `size` is the share of a call's time that is added to it. UserError for an unknown kind.

    compute: by computing. sleep, disk: by waiting. child: by computing in a child process. threads: half of the threads
    are removed instead. rare: to one step in fifty. late: to steps after 72 tokens. build: a share that is drawn once
    per artifacts folder, normal with mean 3 `size` and deviation `size`, so that all builds are slower. unlucky_build:
    only to the first build; a build that confirms a fail is not slowed.
    """

    kind: str
    size: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"injection {self.kind} is unknown; known: {', '.join(KINDS)}")

    def threads(self, threads: int) -> int:
        """Return the number of threads that the runtime gets."""
        return max(1, threads // 2) if self.kind == "threads" else threads

    def wrap(self, runtime: Any, artifacts: Path) -> Any:
        """Return the runtime with the slowdown added to its forward calls."""
        return runtime if self.kind == "threads" else _Slowed(runtime, self, artifacts)


class _Slowed:
    def __init__(self, inner: Any, injection: Injection, artifacts: Path):
        self._inner, self._kind, self._share = inner, injection.kind, injection.size
        self._random = random.Random(os.getpid())
        self._spend: Callable[[float], None] = _compute
        if self._kind == "build":
            seed = hashlib.sha256(str(artifacts.resolve()).encode()).digest()
            self._share = max(0.0, 3 * injection.size + random.Random(seed).gauss(0, injection.size))
        elif self._kind == "unlucky_build" and CONFIRM in artifacts.name:
            self._share = 0.0
        elif self._kind == "sleep":
            self._spend = time.sleep
        elif self._kind == "disk":
            self._spend = _write_to_disk
        elif self._kind == "child":
            self._spend = _Child()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def forward(
        self,
        ids_BT: Any,
        lengths: Any,
        cache: Any = None,
        at_BK: Any = None,
        *,
        outputs: frozenset[str] = LOGITS,
        contexts: Any = (),
    ) -> Any:
        start = time.perf_counter()
        result = self._inner.forward(ids_BT, lengths, cache, at_BK, outputs=outputs, contexts=contexts)
        self._inner.synchronize()
        if self._is_slow(cache):
            self._spend(self._share * (time.perf_counter() - start))
        return result

    def _is_slow(self, cache: Any) -> bool:
        if self._kind == "rare":
            return self._random.random() < _RARE_STEPS
        if self._kind == "late":
            return cache is not None and max(cache.lengths) > _LATE_FROM
        return True


def _compute(seconds: float) -> None:
    end, total = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        total += sum(range(20))


def _write_to_disk(seconds: float) -> None:
    end = time.perf_counter() + seconds
    with tempfile.TemporaryFile() as file:
        while time.perf_counter() < end:
            file.write(b"0" * 4096)
            file.flush()
            os.fsync(file.fileno())


class _Child:
    """Computes for the requested time in a child process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", _SPIN], stdin=-1, stdout=-1, text=True)

    def __call__(self, seconds: float) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(seconds, file=self._process.stdin, flush=True)
        self._process.stdout.readline()
