"""Timers over an injected clock, so that tests need no real time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

Clock = Callable[[], float]  # seconds


class StepTimer:
    """Times a generation: call `start`, then `tick` whenever the tokens of a step are on the host."""

    def __init__(self, clock: Clock, synchronize: Callable[[], None]):
        self._clock, self._synchronize = clock, synchronize
        self._times: list[float] = []

    def start(self) -> None:
        """Wait for the device and start; discards earlier times."""
        self._synchronize()
        self._times = [self._clock()]

    def tick(self) -> None:
        """Wait for the device and record the end of a step."""
        self._synchronize()
        self._times.append(self._clock())

    def correct(self, times: Sequence[float]) -> None:
        """Replace the times of all ticks, which were late, by those of the same clock when the tokens were there."""
        if len(times) != len(self._times) - 1:
            raise ValueError(f"{len(times)} times for {len(self._times) - 1} steps")
        self._times[1:] = times

    @property
    def ttft_s(self) -> float:
        """Return the seconds from the start to the first token."""
        return self._times[1] - self._times[0]

    @property
    def tpot_s(self) -> list[float]:
        """Return the seconds between consecutive tokens."""
        return [later - earlier for earlier, later in zip(self._times[1:], self._times[2:], strict=False)]

    @property
    def total_s(self) -> float:
        """Return the seconds from the start to the last token."""
        return self._times[-1] - self._times[0]


class PhaseTimer:
    """Adds up the seconds of named phases. Time in a nested phase counts for the inner phase only."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._inner_s = [0.0]  # per open phase, the seconds of phases nested in it
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the seconds of this block to the phase."""
        start = self._clock()
        self._inner_s.append(0.0)
        try:
            yield
        finally:
            whole = self._clock() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + whole - self._inner_s.pop()
            self._inner_s[-1] += whole
