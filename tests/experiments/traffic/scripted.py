"""An engine and a clock that follow a script, so that minutes of load pass at once."""

from __future__ import annotations

import heapq
import itertools
import queue
from collections.abc import Callable

from typing_extensions import override

from runtime_matrix.experiments.traffic.driver import Clock
from runtime_matrix.runtimes.requests import Failed, Generated, GenerateRequest, Listener, Usage


class ScriptedClock(Clock):
    """Time that passes while the driver waits; what is due happens meanwhile."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    @override
    def now(self) -> float:
        return self.now_s

    def at(self, when_s: float, event: Callable[[], None]) -> None:
        """Let something happen at a time."""
        heapq.heappush(self._due, (when_s, next(self._order), event))

    @override
    def wait(self, ended: queue.SimpleQueue[int], seconds: float) -> int | None:
        until_s = self.now_s + (max(seconds, 1e-9) if seconds > 0 else 0.0)  # floats of 1000 s are no finer
        while ended.empty() and self._due and self._due[0][0] <= until_s:
            when_s, _, event = heapq.heappop(self._due)
            self.now_s = max(self.now_s, when_s)
            event()
        if ended.empty():
            self.now_s = max(self.now_s, until_s)
            return None
        return ended.get_nowait()


class ScriptedEngine:
    """Computes `slots` requests at once; each takes `first_s` to its first token and `token_s` for each further one."""

    def __init__(self, clock: ScriptedClock, first_s: float = 0.1, token_s: float = 0.01, slots: int = 1_000_000):
        self.clock, self.first_s, self.token_s, self.slots = clock, first_s, token_s, slots
        self.in_flight = self.most_in_flight = 0
        self.starts_s: list[float] = []
        self.cancelled: list[int] = []
        self.cancelled_s: list[float] = []
        self.confirms = True  # cancellations
        self.start_takes_s = 0.0
        self.fails: dict[int, str] = {}  # by number of the request: the reason
        self._free_at_s = [0.0] * min(slots, 1000)

    def start(self, request: GenerateRequest, listener: Listener) -> ScriptedStream:
        """See `Intake`."""
        number = len(self.starts_s)
        self.clock.now_s += self.start_takes_s
        now_s = self.clock.now_s
        self.starts_s.append(now_s)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        listener.on_start(now_s)
        stream = ScriptedStream(self, number, listener)
        begin_s = max(now_s, heapq.heappop(self._free_at_s))
        times_s = [begin_s + self.first_s + step * self.token_s for step in range(request.max_new_tokens)]
        heapq.heappush(self._free_at_s, times_s[-1])
        if number in self.fails:
            failure = Failed(self.fails[number])
            self.clock.at(times_s[0], lambda: stream.end(failure))
            return stream
        for step, when_s in enumerate(times_s):
            self.clock.at(when_s, lambda step=step: stream.token(step))  # type: ignore[misc]
        ids = tuple(range(request.max_new_tokens))
        self.clock.at(times_s[-1], lambda: stream.end(Generated(ids, "", "length")))
        return stream


class ScriptedStream:
    """A request of the engine."""

    def __init__(self, engine: ScriptedEngine, number: int, listener: Listener):
        self._engine, self._number, self._listener = engine, number, listener
        self._has_ended = False

    def cancel(self) -> None:
        """See `Stream`."""
        self._engine.cancelled.append(self._number)
        self._engine.cancelled_s.append(self._engine.clock.now_s)
        if self._engine.confirms:
            self.end(Failed("cancelled", is_cancelled=True))

    def token(self, token_id: int) -> None:
        """Let a token arrive."""
        if not self._has_ended:
            self._listener.on_tokens([token_id], self._engine.clock.now_s)

    def end(self, result: Generated | Failed) -> None:
        """End the request."""
        if self._has_ended:
            return
        self._has_ended = True
        self._engine.in_flight -= 1
        self._listener.on_end(result, Usage(3, 5, 1), self._engine.clock.now_s)


def requests(count: int, new_tokens: int = 5) -> list[GenerateRequest]:
    """Return requests of three prompt tokens."""
    return [GenerateRequest((number, 1, 2), new_tokens, ignore_eos=True) for number in range(count)]
