"""What the C library does with freed memory.

glibc keeps freed blocks for later use. How many it keeps depends on the order of requests, so the peak of a process
that allocates large blocks of many sizes grows for a long time, and differs from run to run.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_LARGE_BYTES = 1 << 17  # glibc's own threshold, before it raises it to the size of what was freed
_RAISED_BYTES = 1 << 25  # the most that glibc raises it to


@contextmanager
def returned_at_once() -> Iterator[None]:
    """Return freed blocks of 128 KiB and more to the system at once within the block; elsewhere than in glibc, nothing.

    After it, the thresholds are those of a process that has freed a large block before.
    """
    mallopt = _mallopt()
    if mallopt is None:
        yield
        return
    mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
    mallopt(_TRIM_THRESHOLD, _LARGE_BYTES)
    try:
        yield
    finally:
        mallopt(_MMAP_THRESHOLD, _RAISED_BYTES)
        mallopt(_TRIM_THRESHOLD, 2 * _RAISED_BYTES)


def _mallopt() -> ctypes._NamedFuncPointer | None:
    library = ctypes.CDLL(None)
    return library.mallopt if hasattr(library, "gnu_get_libc_version") else None
