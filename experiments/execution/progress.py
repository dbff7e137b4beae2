"""Show the progress of a sweep: one live line on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

HEARTBEAT_S = 4.0  # with ticks every 0.5 s, a log gets a line at least every 5 s


class Deadline:
    """The time after which no cell is started; `seconds` None: no limit."""

    def __init__(self, seconds: float | None):
        self._end = None if seconds is None else time.monotonic() + seconds

    def is_over(self, needed_s: float = 0.0) -> bool:
        """Return whether less than `needed_s` is left."""
        return self._end is not None and time.monotonic() + needed_s > self._end


class Progress:
    """Shows the current cell, benchmark, phase and items; `total` is the number of cells.

    In a log, a line is written at least every few seconds while `on_message` or `tick` is called.
    """

    def __init__(self, total: int, is_enabled: bool = True, clock: Callable[[], float] = time.monotonic):
        self._total, self._is_enabled, self._clock = total, is_enabled, clock
        self._done = 0
        self._label = ""
        self._benchmark = self._phase = self._items = self._left = ""
        self._note = ""  # the current step after all cells are measured
        self._since = self._cell_since = self._shown_at = clock()
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
        """Show that a cell is started."""
        self._label, self._cell_since = label, self._clock()
        self._begin("")
        self._show(self._where())

    def on_message(self, message: tuple[Any, ...] | None) -> None:
        """Show ("benchmark", name), ("phase", name) or ("items", done, total); None is a tick."""
        if message is None:
            self.tick()
        elif message[0] == "benchmark":
            self._begin(message[1])
            self._show(self._where())
        elif message[0] == "phase":
            self._phase, self._items, self._left, self._since = message[1], "", "", self._clock()
            self.tick()
        elif message[0] == "items":
            self._count(*message[1:])
            if self._live is not None:
                self._show(self._where() + self._left)
            self.tick()

    def tick(self) -> None:
        """Repeat the current line in a log if none was written for some seconds."""
        if self._live is None and self._clock() - self._shown_at >= HEARTBEAT_S:
            self._show(f"{self._where()}, {self._clock() - self._since:.0f} s{self._left}")

    def expect(self, total: int) -> None:
        """Restart the count for this many cells."""
        self._total, self._done, self._note = total, 0, ""

    def note(self, text: str) -> None:
        """Show a step that belongs to no cell."""
        self._note, self._since = text, self._clock()
        self._show(text)

    def tell(self, line: str) -> None:
        """Print a line that stays on the terminal."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            self._show(line)

    def finish(self, status: str, reason: str | None, was_resumed: bool = False) -> None:
        """Print the result of the current cell."""
        seconds = self._clock() - self._cell_since
        duration = "recorded earlier" if was_resumed else f"{seconds:.1f} s"
        self._done += 1
        self.tell(self._result(self._label, status, duration, reason))

    def report(self, label: str, status: str, reason: str | None, seconds: float | None) -> None:
        """Print the result of a cell that was measured elsewhere; `seconds` None: it was recorded earlier."""
        self._done += 1
        self.tell(self._result(label, status, "recorded earlier" if seconds is None else f"{seconds:.1f} s", reason))

    def _result(self, label: str, status: str, duration: str, reason: str | None) -> str:
        return f"[{self._done}/{self._total}] {label}: {status} ({duration})" + (f": {reason}" if reason else "")

    def _begin(self, benchmark: str) -> None:
        self._benchmark, self._phase, self._items, self._left, self._note = benchmark, "", "", "", ""
        self._since = self._clock()

    def _where(self) -> str:
        """Return the current cell, benchmark, phase and count of items as one line."""
        if self._note:
            return self._note
        parts = [f"[{self._done + 1}/{self._total}] {self._label}", self._benchmark, self._phase]
        return ": ".join(filter(None, parts)) + self._items

    def _count(self, done: int, total: int) -> None:
        seconds = self._clock() - self._since
        self._items = f" {done}/{total}"
        self._left = f", {seconds / done * (total - done):.0f} s left" if done else ""

    def _show(self, line: str) -> None:
        self._shown_at = self._clock()
        if self._live is not None:
            self._live.update(line.replace("[", r"\["))
        elif self._is_enabled:
            print(line, file=sys.stderr, flush=True)
