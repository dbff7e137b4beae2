"""Stop watches over a clock that is handed in, so that their logic is tested without time passing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Clock = Callable[[], float]  # seconds


class StepTimer:
    """Times a generation: `start`, then `tick` whenever the tokens of a step are on the host."""

    def __init__(self, clock: Clock, synchronize: Callable[[], None]):
        self._clock, self._synchronize = clock, synchronize
        self._times: list[float] = []

    def start(self) -> None:
        self._synchronize()
        self._times = [self._clock()]

    def tick(self) -> None:
        self._synchronize()
        self._times.append(self._clock())

    @property
    def ttft_s(self) -> float:
        """Seconds from the start to the first token."""
        return self._times[1] - self._times[0]

    @property
    def tpot_s(self) -> list[float]:
        """Seconds between one token and the next."""
        return [later - earlier for earlier, later in zip(self._times[1:], self._times[2:], strict=False)]

    @property
    def total_s(self) -> float:
        return self._times[-1] - self._times[0]


class PhaseTimer:
    """Adds up the seconds of named phases."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = self._clock()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self._clock() - start
