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
    """Adds up the seconds of named phases; those of a phase within another are the inner one's alone."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._inner_s = [0.0]  # of each phase that is open, what phases within it took
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = self._clock()
        self._inner_s.append(0.0)
        try:
            yield
        finally:
            whole = self._clock() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + whole - self._inner_s.pop()
            self._inner_s[-1] += whole
