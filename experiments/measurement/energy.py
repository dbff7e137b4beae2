"""Energy from hardware counters: NVML for a GPU, RAPL for a processor (Linux's powercap). Never time × watts.

The counters cover the whole device, including everything else that runs on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
_MICRO, _MILLI = 1e-6, 1e-3


class NoMeter(Exception):
    """There is no energy counter. The message is one line with the reason."""


@dataclass(frozen=True)
class Counter:
    """A growing energy counter in joules. It restarts from 0 at `wraps_at_j`; None: never."""

    source: str
    read_j: Callable[[], float]
    wraps_at_j: float | None = None


@dataclass
class EnergyMeter:
    """Measures the energy of a `measure` block; `reason` explains why `energy_j` is None."""

    device: str  # "cpu" or "cuda"
    uuid: str | None = None  # UUID of the GPU as NVIDIA's tools write it; None: the first GPU
    energy_j: float | None = None
    source: str | None = None
    reason: str | None = None
    _counters: list[Counter] = field(default_factory=list)

    def __post_init__(self) -> None:
        try:
            self._counters = nvml_counters(self.uuid) if self.device == "cuda" else rapl_counters()
            self.source = self._counters[0].source
        except NoMeter as error:
            self.reason = str(error)

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Set `energy_j` to the energy of this block, in place of an earlier block's."""
        before = [counter.read_j() for counter in self._counters]
        yield
        if self._counters:
            self.energy_j = sum(_gained(counter, start) for counter, start in zip(self._counters, before, strict=True))

    def figures(self) -> dict[str, float | str | None]:
        """Return the energy of the last block in joules, its source, and the reason if it is unknown."""
        return {"energy_j": self.energy_j, "energy_source": self.source, "energy_reason": self.reason}


def rapl_counters(root: Path = POWERCAP) -> list[Counter]:
    """Return one counter per processor package; NoMeter if the kernel has none or only root may read them."""
    packages = [path for path in sorted(root.glob("intel-rapl:*")) if path.name.count(":") == 1]
    if not packages:
        raise NoMeter("the kernel shows no RAPL counter (/sys/class/powercap is empty, as in most virtual machines)")
    try:
        for path in packages:
            _microjoules(path / "energy_uj")
        return [_rapl(path) for path in packages]
    except OSError as error:
        raise NoMeter(f"RAPL cannot be read: {error.strerror}: {error.filename}") from error


def _rapl(package: Path) -> Counter:
    return Counter("RAPL", lambda: _microjoules(package / "energy_uj"), _microjoules(package / "max_energy_range_uj"))


def nvml_counters(uuid: str | None = None) -> list[Counter]:
    """Return the counter of the GPU with this UUID; None means the first GPU, hidden ones included.

    Raises NoMeter without nvidia-ml-py, a driver, or a device with a counter.
    """
    try:
        import pynvml
    except ImportError as error:
        raise NoMeter("NVML needs nvidia-ml-py: pip install 'runtime-matrix[energy]'") from error
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid) if uuid else pynvml.nvmlDeviceGetHandleByIndex(0)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        raise NoMeter(f"NVML: {error}") from error
    return [Counter("NVML", lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) * _MILLI)]


def _gained(counter: Counter, start_j: float) -> float:
    gained = counter.read_j() - start_j
    return gained + counter.wraps_at_j if gained < 0 and counter.wraps_at_j else gained


def _microjoules(path: Path) -> float:
    return int(path.read_text(encoding="utf-8")) * _MICRO
