"""SIGTERM handling: the process writes the current batch before it ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_depth = 0
_has_arrived = False


def install() -> None:
    """Make SIGTERM raise KeyboardInterrupt in the main thread: at once, or after the current batch is written."""
    signal.signal(signal.SIGTERM, _on_sigterm)


@contextmanager
def deferring() -> Iterator[None]:
    """Defer SIGTERM within this block until `check` is called, after each written batch."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
    check()


def check() -> None:
    """Raise KeyboardInterrupt if SIGTERM has arrived. Call it after a batch is written."""
    if _has_arrived:
        raise KeyboardInterrupt


def _on_sigterm(*_: Any) -> None:
    global _has_arrived
    _has_arrived = True
    if not _depth:
        raise KeyboardInterrupt
