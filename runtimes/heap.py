"""Memory that was freed and is still held by the C library."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def return_freed() -> None:
    """Return to the system what the C library keeps of freed memory, where it can; see malloc_trim(3)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
