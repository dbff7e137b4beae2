"""The engine's own counters, read before, during and after a load, beside what the client saw."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

Read = Callable[[], Mapping[str, float]]
_PERIOD_S = 0.25


class Counters:
    """Reads counters while its block runs. `failure` is why an engine could not be read, in one line."""

    def __init__(self, read: Read, period_s: float = _PERIOD_S):
        self._read, self._period_s = read, period_s
        self._readings: list[Mapping[str, float]] = []
        self.failure: str | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="counters", daemon=True)

    def __enter__(self) -> Self:
        if self._take():
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        if error is None and self.failure is None:
            self._take()

    def changes(self) -> dict[str, float]:
        """Return by how much each number changed over the block, without those that did not."""
        if not self._readings:
            return {}
        first, last = self._readings[0], self._readings[-1]
        differences = {name: value - first.get(name, 0.0) for name, value in last.items()}
        return {name: difference for name, difference in differences.items() if difference}

    def highest(self) -> dict[str, float]:
        """Return the highest value of each number that went up and down again, such as requests that wait."""
        if not self._readings:
            return {}
        first, last = self._readings[0], self._readings[-1]
        highest: dict[str, float] = {}
        for name in last:
            value = max(reading.get(name, 0.0) for reading in self._readings)
            if value > max(first.get(name, 0.0), last[name]):
                highest[name] = value
        return highest

    def highest_of(self, names: Sequence[str]) -> float | None:
        """Return the highest value of the first of these numbers that the engine reports; None if it reports none."""
        for name in names:
            if values := [reading[name] for reading in self._readings if name in reading]:
                return max(values)
        return None

    def _watch(self) -> None:
        while not self._end.wait(self._period_s):
            if not self._take():
                return

    def _take(self) -> bool:
        """Read once; return whether there is anything to read."""
        try:
            self._readings.append(dict(self._read()))
        except Exception as error:  # clients raise anything, and a loaded server may not answer in time
            self.failure = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return False
        return bool(self._readings[-1])
