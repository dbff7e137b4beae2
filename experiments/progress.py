"""What is going on: one live line on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any


class Deadline:
    """When to begin nothing more; `seconds` None: never."""

    def __init__(self, seconds: float | None):
        self._end = None if seconds is None else time.monotonic() + seconds

    def is_over(self) -> bool:
        return self._end is not None and time.monotonic() > self._end


class Progress:
    """Hears of cells, benchmarks and items; `total` is the number of cells. Silent when not enabled."""

    def __init__(self, total: int, is_enabled: bool = True):
        self._total, self._is_enabled = total, is_enabled
        self._done = 0
        self._label = ""
        self._benchmark = ""
        self._benchmark_since = self._cell_since = time.monotonic()
        self._live: Any = None

    def __enter__(self) -> Progress:
        if self._is_enabled and sys.stderr.isatty():
            from rich.console import Console
            from rich.status import Status

            self._live = Status("", console=Console(stderr=True))
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def start(self, label: str) -> None:
        self._label, self._cell_since = label, time.monotonic()
        self._say(f"[{self._done + 1}/{self._total}] {label}")

    def hear(self, message: tuple[Any, ...] | None) -> None:
        """Take ("benchmark", name), ("items", done, total), or None for time going by."""
        if message is None:
            return
        if message[0] == "benchmark":
            self._benchmark, self._benchmark_since = message[1], time.monotonic()
            self._say(f"[{self._done + 1}/{self._total}] {self._label}: {self._benchmark}")
        elif message[0] == "items" and self._live is not None:
            self._live.update(self._line(*message[1:]))

    def expect(self, total: int) -> None:
        """Begin again: this many cells are to come."""
        self._total, self._done = total, 0

    def note(self, text: str) -> None:
        """Say what goes on when all cells are measured."""
        self._say(text)

    def finish(self, status: str, reason: str | None, was_resumed: bool = False) -> None:
        seconds = time.monotonic() - self._cell_since
        how = "recorded earlier" if was_resumed else f"{seconds:.1f} s"
        self._done += 1
        line = f"[{self._done}/{self._total}] {self._label}: {status} ({how})" + (f": {reason}" if reason else "")
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            self._say(line)

    def _line(self, done: int, total: int) -> str:
        seconds = time.monotonic() - self._benchmark_since
        left = f", {seconds / done * (total - done):.0f} s left" if done else ""
        return rf"\[{self._done + 1}/{self._total}] {self._label}: {self._benchmark} {done}/{total}{left}"

    def _say(self, line: str) -> None:
        if self._live is not None:
            self._live.update(line.replace("[", r"\["))
        elif self._is_enabled:
            print(line, file=sys.stderr, flush=True)
