"""Host memory of this process, from Linux's /proc; None where there is none."""

from __future__ import annotations

from collections.abc import Iterator
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


def _status(key: str) -> int | None:
    try:
        lines = (_PROC / "status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), None)
