"""Host memory of this process and its descendants from Linux's /proc, and the peak of any other figure.

None without /proc. Memory that processes share (libraries, pages since a fork) counts once per process.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from runtime_matrix.experiments.measurement.processes import descendants

_PROC = Path("/proc")


def tree_resident_bytes(proc: Path = _PROC) -> int | None:
    """Return the resident size of this process and its live descendants."""
    return _tree("VmRSS", proc)


def tree_peak_bytes(proc: Path = _PROC) -> int | None:
    """Return the sum of the peaks since `reset_peak` of this process and its live descendants.

    The peaks need not have occurred at the same time. Ended descendants are not counted.
    """
    return _tree("VmHWM", proc)


def resident_bytes_of(pid: int) -> int | None:
    """Return the resident size of a process."""
    return _status(str(pid), "VmRSS")


def peak_bytes_of(pid: int) -> int | None:
    """Return the peak of a process's resident size since `reset_peak`."""
    return _status(str(pid), "VmHWM")


def reset_peak() -> bool:
    """Reset the peaks of this process and its descendants; return False if this process's cannot be reset.

    It uses /proc because `ru_maxrss` never falls.
    """
    try:
        (_PROC / "self" / "clear_refs").write_text("5")
    except OSError:
        return False
    for pid in descendants():
        with suppress(OSError):
            (_PROC / str(pid) / "clear_refs").write_text("5")
    return True


def mapped_file_bytes() -> int:
    """Return the size of this process's mapped files without libraries; weights may be mapped and not yet read."""
    try:
        lines = (_PROC / "self" / "maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    total = 0
    for line in lines:
        span, _, _, _, inode, *name = line.split(maxsplit=5)
        if inode != "0" and name and ".so" not in name[0]:
            first, last = (int(address, 16) for address in span.split("-"))
            total += last - first
    return total


def available_bytes() -> int | None:
    """Return the memory that the system can provide without swapping."""
    return _field(Path("/proc/meminfo"), "MemAvailable")


class Sampler:
    """Samples `read` every `every_s` in a thread and keeps the highest value of the `with` block.

    Use it for memory that no allocator counts. Peaks shorter than `every_s` may be missed.
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
    """Peaks of named phases in bytes, above the memory at creation and without imports since then."""

    def __init__(self) -> None:
        self.baseline_bytes = tree_resident_bytes()
        self.import_bytes = 0
        self.peaks_bytes: dict[str, int | None] = {}
        self._earlier = 0  # peak of the current phase before its last import

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Record the peak of this block under `name`; None if it cannot be measured."""
        was_reset, self._earlier = reset_peak(), 0
        try:
            yield
        finally:
            above = self._above_baseline() if was_reset else None
            self.peaks_bytes[name] = None if above is None else max(self._earlier, above)

    @contextmanager
    def imports(self) -> Iterator[None]:
        """Exclude the memory that this block adds, such as imported packages, from all peaks."""
        self._earlier = max(self._earlier, self._above_baseline() or 0)
        before = tree_resident_bytes()
        try:
            yield
        finally:
            after = tree_resident_bytes()
            if before is not None and after is not None:
                self.rebase(max(0, after - before))

    @contextmanager
    def loading_phase(self, name: str) -> Iterator[None]:
        """Wrap a phase of a runtime's `load`; the memory of the phase `import` is excluded from all peaks."""
        with self.imports() if name == "import" else nullcontext():
            yield

    def rebase(self, bytes: int) -> None:
        """Raise the baseline by `bytes` and reset the peak."""
        self.import_bytes += bytes
        if self.baseline_bytes is not None:
            self.baseline_bytes += bytes
        reset_peak()

    def gained_bytes(self) -> int | None:
        """Return the current memory above the baseline."""
        current = tree_resident_bytes()
        return None if current is None or self.baseline_bytes is None else current - self.baseline_bytes

    def _above_baseline(self) -> int | None:
        peak = tree_peak_bytes()
        return None if peak is None or self.baseline_bytes is None else max(0, peak - self.baseline_bytes)


class MemoryTrace:
    """The resident memory of another process over time, as (seconds since the start, bytes), read by its parent."""

    _EVERY_S = 0.5

    def __init__(self, pid: int, clock: Callable[[], float] = time.monotonic):
        self._path, self._clock, self._start = Path(f"/proc/{pid}/statm"), clock, clock()
        self.samples: list[tuple[float, int]] = []

    def take(self) -> None:
        """Add a sample, at most two per second; does nothing if the process has ended or without /proc."""
        elapsed = self._clock() - self._start
        if self.samples and elapsed - self.samples[-1][0] < self._EVERY_S:
            return
        try:
            pages = int(self._path.read_text(encoding="utf-8").split()[1])
        except (OSError, IndexError, ValueError):
            return
        if pages:  # 0 for a process that has ended and is not yet reaped
            self.samples.append((round(elapsed, 2), pages * os.sysconf("SC_PAGE_SIZE")))


def _tree(key: str, proc: Path) -> int | None:
    own = _status("self", key, proc)
    return None if own is None else own + sum(_status(str(pid), key, proc) or 0 for pid in descendants(proc=proc))


def _status(process: str, key: str, proc: Path = _PROC) -> int | None:
    return _field(proc / process / "status", key)


def _field(path: Path, key: str) -> int | None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), None)
