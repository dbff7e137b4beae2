"""Drive an engine with requests that arrive at given times, or with a fixed number in flight, and keep what happened.

In an open loop a late start is not forgiven: times count from the planned arrival, so that a stalled engine does not
hide the requests that it kept waiting (coordinated omission).
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from runtime_matrix.runtimes.requests import Failed, Generated, GenerateRequest, Listener, Stream, Usage

Start = Callable[[GenerateRequest, Listener], Stream]  # returns at once
_CANCELLED_S = 10.0  # for an engine to confirm that it has cancelled a request
_LONGEST_WAIT_S = 1.0  # so that an interruption is noticed


class Clock:
    """Real time, and waiting for ends in it."""

    def now(self) -> float:
        """Return the seconds of `time.perf_counter`, the clock of listeners."""
        return time.perf_counter()

    def wait(self, ended: queue.SimpleQueue[int], seconds: float) -> int | None:
        """Return the number of the next request that has ended; None if there is none within these seconds."""
        try:
            return ended.get(timeout=seconds) if seconds > 0 else ended.get_nowait()
        except queue.Empty:
            return None


@dataclass
class Served:
    """What happened to one request. Times are in seconds since the load began."""

    planned_s: float
    prompt_tokens: int
    new_tokens: int  # that were asked for
    started_s: float | None = None
    tokens_s: list[float] = field(default_factory=list)  # when each token arrived; tokens in one event share the time
    ids: list[int] = field(default_factory=list)
    ended_s: float | None = None
    result: Generated | Failed | None = None
    usage: Usage = field(default_factory=Usage)

    @property
    def is_complete(self) -> bool:
        """Return whether the engine gave a text whose tokens were seen to arrive."""
        return isinstance(self.result, Generated) and bool(self.tokens_s)

    @property
    def ttft_s(self) -> float:
        """Return the time from the planned arrival to the first token."""
        return self.tokens_s[0] - self.planned_s

    @property
    def e2e_s(self) -> float:
        """Return the time from the planned arrival to the last token."""
        return self.tokens_s[-1] - self.planned_s

    @property
    def tpot_s(self) -> float | None:
        """Return the mean time per output token after the first one; None for a single token."""
        further = len(self.tokens_s) - 1
        return (self.tokens_s[-1] - self.tokens_s[0]) / further if further else None

    @property
    def itl_s(self) -> list[float]:
        """Return the single gaps between tokens."""
        return [later - earlier for earlier, later in zip(self.tokens_s, self.tokens_s[1:], strict=False)]


class Load(Protocol):
    """Decides when the next request starts."""

    def due_s(self, number: int, in_flight: int) -> float | None:
        """Return when request `number` is planned to start; None: not before another one has ended."""
        ...


@dataclass(frozen=True)
class OpenLoop:
    """Requests arrive at these times, whatever the engine does."""

    times_s: Sequence[float]

    def due_s(self, number: int, in_flight: int) -> float | None:
        """See `Load`."""
        return self.times_s[number]


@dataclass(frozen=True)
class ClosedLoop:
    """As many requests are in flight; the next one starts when one has ended."""

    concurrency: int

    def due_s(self, number: int, in_flight: int) -> float | None:
        """See `Load`. 0: now."""
        return 0.0 if in_flight < self.concurrency else None


@dataclass(frozen=True)
class Driven:
    """The requests of a load, in their order, and its summary."""

    requests: list[Served]
    duration_s: float  # to the end of the last request
    most_in_flight: int


def drive(
    start: Start,
    requests: Sequence[GenerateRequest],
    load: Load,
    timeout_s: float,
    report: Callable[[int], None] = lambda ended: None,
    clock: Clock | None = None,
) -> Driven:
    """Start the requests by the load and wait for all ends; a request is cancelled `timeout_s` after its plan.

    Raises RuntimeError if the engine does not confirm a cancellation. Every exception cancels what is in flight.
    """
    return _Drive(start, requests, load, timeout_s, report, clock or Clock()).run()


class _Drive:
    def __init__(
        self,
        start: Start,
        requests: Sequence[GenerateRequest],
        load: Load,
        timeout_s: float,
        report: Callable[[int], None],
        clock: Clock,
    ):
        self._start, self._requests, self._load, self._timeout_s = start, requests, load, timeout_s
        self._report, self._clock = report, clock
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._served: list[Served] = []
        self._streams: dict[int, Stream] = {}  # of requests in flight
        self._limited: deque[int] = deque()  # requests in the order of their time limits
        self._cancelled: deque[tuple[int, float]] = deque()  # (request, until when the engine must confirm)
        self._most_in_flight = 0
        self._begin_s = clock.now()

    def run(self) -> Driven:
        try:
            while len(self._served) < len(self._requests) or self._streams:
                next_s = min(self._start_due(), self._cancel_late())
                self._take_ended(max(0.0, min(next_s - self._now_s(), _LONGEST_WAIT_S)))
        except BaseException:
            for stream in self._streams.values():
                stream.cancel()
            raise
        ends = [served.ended_s for served in self._served if served.ended_s is not None]
        return Driven(self._served, max(ends, default=0.0), self._most_in_flight)

    def _now_s(self) -> float:
        return self._clock.now() - self._begin_s

    def _start_due(self) -> float:
        """Start what is due, and return when the next request will be; infinity if that is not known."""
        while (number := len(self._served)) < len(self._requests):
            self._take_ended(0.0)
            due_s, now_s = self._load.due_s(number, len(self._streams)), self._now_s()
            if due_s is None:
                break
            if due_s > now_s:
                return due_s
            self._begin(number, due_s if isinstance(self._load, OpenLoop) else now_s)
        return float("inf")

    def _begin(self, number: int, planned_s: float) -> None:
        request = self._requests[number]
        served = Served(planned_s, len(request.ids), request.max_new_tokens)
        self._served.append(served)
        self._limited.append(number)
        self._streams[number] = self._start(request, _Listener(served, self._begin_s, number, self._ended))
        self._most_in_flight = max(self._most_in_flight, len(self._streams))

    def _cancel_late(self) -> float:
        """Cancel requests beyond their time limit, and return the next limit."""
        self._take_ended(0.0)
        now_s, limits_s = self._now_s(), [float("inf")]
        while self._limited:
            number = self._limited[0]
            limit_s = self._served[number].planned_s + self._timeout_s
            if number in self._streams and limit_s > now_s:
                limits_s.append(limit_s)
                break
            self._limited.popleft()
            if number in self._streams:
                self._streams[number].cancel()
                self._cancelled.append((number, now_s + _CANCELLED_S))
        while self._cancelled and self._cancelled[0][0] not in self._streams:
            self._cancelled.popleft()
        if self._cancelled:
            limits_s.append(self._cancelled[0][1])
            if limits_s[-1] <= now_s:
                raise RuntimeError(f"the engine did not end a request within {_CANCELLED_S:g} s of its cancellation")
        return min(limits_s)

    def _take_ended(self, seconds: float) -> None:
        """Take all ends that are known, and wait this long for the first one."""
        while (number := self._clock.wait(self._ended, seconds)) is not None:
            del self._streams[number]
            self._report(len(self._served) - len(self._streams))
            seconds = 0.0


class _Listener:
    """Writes the events of one request down; called in the engine's thread."""

    def __init__(self, served: Served, begin_s: float, number: int, ended: queue.SimpleQueue[int]):
        self._served, self._begin_s, self._number, self._ended = served, begin_s, number, ended

    def on_start(self, at_s: float) -> None:
        """The request was sent."""
        self._served.started_s = at_s - self._begin_s

    def on_tokens(self, ids: Sequence[int], at_s: float) -> None:
        """Tokens have arrived."""
        self._served.ids.extend(ids)
        self._served.tokens_s.extend([at_s - self._begin_s] * len(ids))

    def on_end(self, result: Generated | Failed, usage: Usage, at_s: float) -> None:
        """The request has ended."""
        self._served.result, self._served.usage, self._served.ended_s = result, usage, at_s - self._begin_s
        self._ended.put(self._number)
