"""Slowdowns of known size, put into a runtime to test what compares it."""

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
CONFIRM = "-confirm-"  # in the name of a folder of artifacts that a gate builds again
_RARE_STEPS = 0.02  # of the steps are slow
_LATE_FROM = 72  # tokens a row holds
_SPIN = "import sys, time\nfor line in sys.stdin:\n end = time.perf_counter() + float(line)\n while time.perf_counter() < end: pass\n print(flush=True)"  # noqa: E501


@dataclass(frozen=True)
class Injection:
    """`size` is the share of a call's time that is added: of all calls, or of those that the kind names.

    compute: by computing. sleep, disk: by waiting. child: by computing in a child process. threads: none is added, and
    half of the threads are taken away. rare: of one step in fifty. late: of steps behind 72 tokens. build: a share
    drawn once for each folder of artifacts, normal with the deviation `size` around three times that: all builds are
    slower. unlucky_build: of the first build only; one that is made to confirm a fail is as fast as without.
    """

    kind: str
    size: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"injection {self.kind} is unknown; known: {', '.join(KINDS)}")

    def threads(self, threads: int) -> int:
        return max(1, threads // 2) if self.kind == "threads" else threads

    def wrap(self, runtime: Any, artifacts: Path) -> Any:
        """Return the runtime with the slowdown in each of its calls."""
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
        self, ids_BT: Any, lengths: Any, cache: Any = None, at_BK: Any = None, *, outputs: frozenset[str] = LOGITS
    ) -> Any:
        start = time.perf_counter()
        made = self._inner.forward(ids_BT, lengths, cache, at_BK, outputs=outputs)
        self._inner.synchronize()
        if self._is_slow(cache):
            self._spend(self._share * (time.perf_counter() - start))
        return made

    def _is_slow(self, cache: Any) -> bool:
        if self._kind == "rare":
            return self._random.random() < _RARE_STEPS
        if self._kind == "late":
            return cache is not None and max(cache.lengths) > _LATE_FROM
        return True


def _compute(seconds: float) -> None:
    until, junk = time.perf_counter() + seconds, 0
    while time.perf_counter() < until:
        junk += sum(range(20))


def _write_to_disk(seconds: float) -> None:
    until = time.perf_counter() + seconds
    with tempfile.TemporaryFile() as file:
        while time.perf_counter() < until:
            file.write(b"0" * 4096)
            file.flush()
            os.fsync(file.fileno())


class _Child:
    """Computes in a process of its own for as long as it is told."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", _SPIN], stdin=-1, stdout=-1, text=True)

    def __call__(self, seconds: float) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(seconds, file=self._process.stdin, flush=True)
        self._process.stdout.readline()
