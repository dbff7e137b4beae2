"""Measure the memory that closing a runtime gives back."""

from __future__ import annotations

import gc

from runtime_matrix.experiments.execution.worker import device
from runtime_matrix.experiments.execution.worker.bench import CellBench
from runtime_matrix.experiments.measurement.memory import tree_resident_bytes
from runtime_matrix.experiments.records.schema import Freed
from runtime_matrix.runtimes.heap import return_freed


class FreedMemory:
    """Reads the memory before a runtime is closed; `freed` reads it afterwards."""

    def __init__(self, bench: CellBench):
        self._is_remote, self._device, self._used = bench.engine.is_remote, bench.device, bench.used_bytes
        gc.collect()  # what the benchmarks left is not the runtime's
        return_freed()
        device.give_back_free(self._device)
        self._host_bytes = tree_resident_bytes()
        self._device_bytes = self._used() if self._used is not None else None

    def freed(self) -> Freed | None:
        """Return the memory that was given back since; None if the runtime computed elsewhere."""
        if self._is_remote:
            return None
        gc.collect()
        return_freed()
        device.give_back_free(self._device)
        host, on_device = tree_resident_bytes(), self._used() if self._used is not None else None
        return Freed(
            host_bytes=None if host is None or self._host_bytes is None else self._host_bytes - host,
            device_bytes=None if on_device is None or self._device_bytes is None else self._device_bytes - on_device,
        )
