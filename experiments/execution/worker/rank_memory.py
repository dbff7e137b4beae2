"""The memory that each rank of a distributed model took while it was loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from runtime_matrix.experiments.measurement.memory import peak_bytes_of, resident_bytes_of
from runtime_matrix.experiments.records.schema import RankLoad
from runtime_matrix.runtimes.base import Engine, Traits


class RankMemory:
    """Reads the resident memory of a runtime's ranks after their imports, and their peaks after loading."""

    def __init__(self, runtime: Engine):
        self._runtime = runtime
        self._baseline_bytes: dict[int, int | None] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Wrap a phase of a runtime's `load`: memory after the phase `import` is that of imports."""
        yield
        if name == "import":
            self._note_imports()

    def _note_imports(self) -> None:
        # The other ranks import once; this process imports again, what its own part needs.
        for process in self._runtime.processes():
            self._baseline_bytes.setdefault(process, resident_bytes_of(process))
        self._baseline_bytes[os.getpid()] = resident_bytes_of(os.getpid())

    def of_each_rank(self, traits: Traits) -> list[RankLoad]:
        """Return what each rank holds and took; empty if the model is not distributed."""
        return [
            RankLoad(
                device=rank.device,
                parameters=rank.parameters,
                weight_bytes=rank.weight_bytes,
                peak_host_bytes=self._peak_bytes(rank.process),
                peak_device_bytes=rank.peak_device_bytes,
            )
            for rank in traits.ranks
        ]

    def _peak_bytes(self, process: int) -> int | None:
        peak, baseline = peak_bytes_of(process), self._baseline_bytes.get(process)
        return None if peak is None or baseline is None else max(0, peak - baseline)
