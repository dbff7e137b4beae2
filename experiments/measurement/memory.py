"""Host memory of this process, from Linux's /proc, None where there is none; and the peak of any other figure."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PROC = Path("/proc/self")


def resident_bytes() -> int | None:
    return _status("VmRSS")


def peak_bytes() -> int | None:
    """Return the highest resident size since the last `reset_peak`."""
    return _status("VmHWM")


def reset_peak() -> bool:
    """Let the kernel forget the peak; False where it cannot. `ru_maxrss` never falls, hence /proc."""
    try:
        (_PROC / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def available_bytes() -> int | None:
    """Return what the system could still give without swapping."""
    return _field(Path("/proc/meminfo"), "MemAvailable")


class Sampler:
    """The highest value that `read` returned within the `with` block, asked every `every_s` by a thread.

    For memory that no allocator counts: what is shorter than `every_s` may be missed.
    """

    def __init__(self, read: Callable[[], int], every_s: float = 0.002):
        self._read, self._every_s = read, every_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.highest = read()

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.highest = max(self.highest, self._read())

    def _sample(self) -> None:
        while not self._done.wait(self._every_s):
            self.highest = max(self.highest, self._read())


class PeakMeter:
    """Peaks of named phases, less what the process held when the meter was made."""

    def __init__(self) -> None:
        self.baseline_bytes = resident_bytes()
        self.peaks_bytes: dict[str, int | None] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        was_reset = reset_peak()
        try:
            yield
        finally:
            peak = peak_bytes() if was_reset else None
            known = peak is not None and self.baseline_bytes is not None
            self.peaks_bytes[name] = max(0, peak - self.baseline_bytes) if known else None  # type: ignore[operator]


class MemoryTrace:
    """The resident memory of another process over time, in (seconds since the start, bytes); read by its parent."""

    _EVERY_S = 0.5

    def __init__(self, pid: int, clock: Callable[[], float] = time.monotonic):
        self._path, self._clock, self._start = Path(f"/proc/{pid}/statm"), clock, clock()
        self.samples: list[tuple[float, int]] = []

    def take(self) -> None:
        """Note the memory, at most twice a second; nothing where the process is gone or there is no /proc."""
        elapsed = self._clock() - self._start
        if self.samples and elapsed - self.samples[-1][0] < self._EVERY_S:
            return
        try:
            pages = int(self._path.read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return
        if pages:  # none is held by a process that has ended and is not collected yet
            self.samples.append((round(elapsed, 2), pages * os.sysconf("SC_PAGE_SIZE")))


def _status(key: str) -> int | None:
    return _field(_PROC / "status", key)


def _field(path: Path, key: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), None)
