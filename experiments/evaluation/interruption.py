"""A process that is told to end writes the batch in flight first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_depth = 0
_is_told = False


def install() -> None:
    """Let SIGTERM raise KeyboardInterrupt in the main thread: at once, or when the batch in flight is written."""
    signal.signal(signal.SIGTERM, _told)


@contextmanager
def deferring() -> Iterator[None]:
    """Within this block, what is computed is written batch by batch: `check` says when one is."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
    check()


def check() -> None:
    """Raise KeyboardInterrupt where this process was told to end. Called when a batch is written."""
    if _is_told:
        raise KeyboardInterrupt


def _told(*_: Any) -> None:
    global _is_told
    _is_told = True
    if not _depth:
        raise KeyboardInterrupt
