"""Utilisation of CPU and GPU during timed work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from runtime_matrix.experiments.measurement.processes import TreeClock

_EVERY_S = 0.1  # the driver's own sampling window is at least as long


class UtilisationMeter:
    """Measures within its `with` block; a figure that cannot be measured is None.

    NVML's figure is the share of time in which at least one kernel of any process ran on the GPU.
    """

    def __init__(self, threads: int, device: str, uuid: str | None = None):
        self._threads, self._read = threads, gpu_reader(uuid) if device == "cuda" else None
        self._done = threading.Event()
        self._samples: list[float] = []
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._clock = TreeClock()
        self._wall_s = self._cpu_s = 0.0

    def __enter__(self) -> UtilisationMeter:
        self._clock.refresh()
        self._wall_s, self._cpu_s = -time.perf_counter(), -self._clock()
        if self._read is not None:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._wall_s += time.perf_counter()
        self._clock.refresh()
        self._cpu_s += self._clock()
        self._done.set()
        if self._read is not None:
            self._thread.join()

    def figures(self) -> dict[str, float | str | None]:
        """Return both utilisations from 0 to 1; the CPU's is relative to the given threads."""
        cpu = self._cpu_s / self._wall_s / self._threads if self._wall_s > 0 else None
        gpu = sum(self._samples) / len(self._samples) if self._samples else None
        return {"cpu_utilisation_ratio": cpu, "gpu_utilisation_ratio": gpu}

    def _sample(self) -> None:
        assert self._read is not None
        while not self._done.wait(_EVERY_S):
            self._samples.append(self._read())


def gpu_reader(uuid: str | None) -> Callable[[], float] | None:
    """Return a function that reads the GPU's utilisation, 0 to 1; None without nvidia-ml-py, driver or this figure."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid) if uuid else pynvml.nvmlDeviceGetHandleByIndex(0)
        pynvml.nvmlDeviceGetUtilizationRates(handle)
    except pynvml.NVMLError:
        return None
    return lambda: float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100
