"""Continuous batching: requests that arrive at any time share the steps of one runtime, which one thread owns.

The texts are those of `generation.generate`: both use the same decoding loop. Scoring runs between the steps.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any

from runtime_matrix.experiments.config.schema import GenerationConfig
from runtime_matrix.experiments.evaluation.admission import Busy, Closed, Counts, Limits
from runtime_matrix.experiments.evaluation.decoding_loop import DecodingLoop, LoopSize
from runtime_matrix.experiments.evaluation.requests import Failed, Generated, GenerateRequest
from runtime_matrix.experiments.evaluation.rows import Piece, Row
from runtime_matrix.experiments.evaluation.speculation import Drafter
from runtime_matrix.experiments.evaluation.watching import Listening, Progress, Watcher, held
from runtime_matrix.runtimes.base import Runtime, Traits
from runtime_matrix.runtimes.requests import Listener, Stream

Work = Callable[[], Iterator[Any]]  # parts of a result, each computed between two steps


@dataclass
class _Running:
    """A request that was admitted."""

    index: int
    request: GenerateRequest
    watcher: Watcher
    alternatives: int | None
    open_samples: int
    sent: dict[int, tuple[int, int]]  # by sample: tokens and characters that the watcher has


@dataclass
class _Job:
    """Work between steps, and who waits for its parts."""

    parts: Iterator[Any]
    done: list[Any]
    result: Future[list[Any]]
    requests: int


class ContinuousBatching:
    """Owns a loaded runtime: nothing else may call it until `close` has returned."""

    def __init__(
        self,
        runtime: Runtime,
        traits: Traits,
        new_text: Callable[[Sequence[int]], Piece],
        eos_ids: Sequence[int] = (),
        options: GenerationConfig | None = None,
        limits: Limits | None = None,
        drafter: Drafter | None = None,
    ):
        self.counts, self.limits = Counts(), limits or Limits()
        rows = 1 if self.limits.one_at_a_time else self.limits.max_batch
        size = LoopSize(min(rows, traits.max_batch or rows), starts_at_once=True)
        chosen = options or GenerationConfig()

        def new_loop() -> DecodingLoop:
            return DecodingLoop(runtime, traits, new_text, eos_ids, chosen, size, self._on_end, drafter, self._on_token)

        self._new_loop = new_loop
        self._loop = new_loop()
        self._indices = itertools.count()
        self._running: dict[int, _Running] = {}
        self._jobs: deque[_Job] = deque()
        self._changed: dict[
            tuple[int, int], tuple[Row, Generated | None]
        ] = {}  # texts with news, by request and sample
        self._inbox: deque[_Running | _Job] = deque()
        self._cancelled: list[int] = []
        self._condition = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="continuous batching", daemon=True)
        self._thread.start()

    def submit(
        self, requests: Sequence[GenerateRequest], watchers: Sequence[Watcher], alternatives: int | None = None
    ) -> list[Stream]:
        """Admit all requests, or none: Busy. Events go to the watchers; requests with several seeds share a prefill.

        With `alternatives`, each token comes with its log-probability and those of so many likeliest tokens.
        """
        with self._condition:
            self._admit(sum(len(request.seeds) for request in requests))
            added = [
                _Running(next(self._indices), request, watcher, alternatives, len(request.seeds), {})
                for request, watcher in zip(requests, watchers, strict=True)
            ]
            now = time.perf_counter()
            for running in added:
                running.watcher.on_start(now)
                self._inbox.append(running)
            self._condition.notify()
        return [_Cancel(self, running.index) for running in added]

    def start(self, request: GenerateRequest, listener: Listener) -> Stream:
        """Admit a request with one seed; its events go to the listener. Raises Busy."""
        (stream,) = self.submit([request], [Listening(request, listener)])
        return stream

    def work(self, parts: Work, requests: int) -> Future[list[Any]]:
        """Compute the parts on the thread of the runtime, between steps. Raises Busy; counts as so many requests.

        Cancelling the result ends the work before its next part.
        """
        job = _Job(iter(()), [], Future(), requests)
        with self._condition:
            self._admit(requests)
            job.parts = parts()
            self._inbox.append(job)
            self._condition.notify()
        return job.result

    def cancel(self, index: int) -> None:
        """End a request if it still runs; its row is free before the next step."""
        with self._condition:
            self._cancelled.append(index)
            self._condition.notify()

    @property
    def is_alive(self) -> bool:
        """Whether requests are taken."""
        return not self._is_closed and self._thread.is_alive()

    def close(self) -> None:
        """Cancel all requests and wait for the thread. Closing twice is allowed."""
        with self._condition:
            self._is_closed = True
            self._condition.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _admit(self, requests: int) -> None:
        if self._is_closed:
            raise Closed("the server is stopping")
        if self.counts.admitted + requests > self.limits.max_requests:
            self.counts.refused += requests
            raise Busy(
                f"{self.counts.admitted} requests wait or run and {requests} more exceed the limit of "
                f"{self.limits.max_requests}: try again later"
            )
        self.counts.admitted += requests

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._is_closed or self._has_work())
                if self._is_closed:
                    break
                cancelled, self._cancelled = self._cancelled, []
                arrived = self._taken()
            start = time.perf_counter()
            self._begin(arrived)
            for index in cancelled:
                self._end(index, Failed("cancelled", is_cancelled=True))
            self._work_once()
            self._step()
            self.counts.busy_s += time.perf_counter() - start
        self._end_all(Failed("the server is stopping", is_cancelled=True))

    def _has_work(self) -> bool:
        return bool(self._inbox or self._cancelled or self._jobs or not self._loop.is_idle)

    def _taken(self) -> list[_Running | _Job]:
        """Take what has arrived; behind a lock, the next one if nothing runs."""
        if not self.limits.one_at_a_time:
            arrived = list(self._inbox)
            self._inbox.clear()
            return arrived
        is_free = self._inbox and not self._jobs and self._loop.is_idle
        return [self._inbox.popleft()] if is_free else []

    def _begin(self, arrived: Sequence[_Running | _Job]) -> None:
        for part in arrived:
            if isinstance(part, _Job):
                self._jobs.append(part)
                continue
            self._running[part.index] = part
            self._loop.add(part.index, part.request, part.alternatives)
            self.counts.prompt_tokens += len(part.request.ids)

    def _work_once(self) -> None:
        """Compute one part of the oldest work; nothing if nobody waits for it any more."""
        if not self._jobs:
            return
        job, error = self._jobs[0], None
        if not job.result.cancelled():
            try:
                job.done.append(next(job.parts))
                self.counts.consecutive_failures = 0
                return
            except StopIteration:
                pass
            except Exception as raised:  # runtimes raise anything
                error = raised
                self.counts.consecutive_failures += 1
        self._jobs.popleft()
        self._leave(job.requests)
        self._finish(job, error)

    def _finish(self, job: _Job, error: Exception | None) -> None:
        try:
            job.result.set_result(job.done) if error is None else job.result.set_exception(error)
        except InvalidStateError:
            self.counts.cancelled += job.requests
        else:
            self.counts.finished += job.requests * (error is None)
            self.counts.failed += job.requests * (error is not None)

    def _step(self) -> None:
        if self._loop.is_idle:
            self.counts.running = 0
            return
        try:
            self._loop.fill()
            self._tell()  # the first token does not wait for the next step
            self._loop.step()
            self._tell()
        except Exception as error:  # runtimes raise anything; what their cache holds then is unknown
            self._loop = self._new_loop()
            self._changed.clear()
            self.counts.consecutive_failures += 1
            for index in list(self._running):
                self._end(index, Failed(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"))
            return
        self.counts.steps += 1
        self.counts.consecutive_failures = 0
        self.counts.running = self._loop.active

    def _on_token(self, row: Row) -> None:
        self._changed[row.index, row.sample] = row, None

    def _on_end(self, row: Row, result: Generated) -> None:
        self._changed[row.index, row.sample] = row, result

    def _tell(self) -> None:
        """Tell the watchers what the step has added."""
        at_s = time.perf_counter()
        changed, self._changed = self._changed, {}
        for row, result in changed.values():
            running = self._running[row.index]
            tokens, characters = running.sent.get(row.sample, (0, 0))
            text = result.text if result is not None else row.text[: len(row.text) - held(row.text, row.request.stop)]
            running.sent[row.sample] = len(row.ids), len(text)
            count = len(row.ids) + (row.end_id is not None)
            self.counts.new_tokens += count - tokens
            running.watcher.on_progress(
                Progress(
                    row.sample,
                    row.ids[tokens:],
                    text[characters:],
                    row.end_id,
                    row.likeliest[tokens:count],
                    result,
                    at_s,
                )
            )
            if result is not None:
                running.open_samples -= 1
                self.counts.finished += 1
                self._leave(1)
                if not running.open_samples:
                    del self._running[row.index]
                    self._loop.forget(row.index)
                    running.watcher.on_end(None, at_s)

    def _end(self, index: int, failure: Failed) -> None:
        """End a request that has not ended by itself."""
        running = self._running.pop(index, None) or self._from_inbox(index)
        if running is None:
            return
        self._loop.remove(index)
        if failure.is_cancelled:
            self.counts.cancelled += running.open_samples
        else:
            self.counts.failed += running.open_samples
        self._leave(running.open_samples)
        running.watcher.on_end(failure, time.perf_counter())

    def _from_inbox(self, index: int) -> _Running | None:
        with self._condition:
            for part in self._inbox:
                if isinstance(part, _Running) and part.index == index:
                    self._inbox.remove(part)
                    return part
        return None

    def _leave(self, requests: int) -> None:
        with self._condition:
            self.counts.admitted -= requests

    def _end_all(self, failure: Failed) -> None:
        with self._condition:
            waiting, self._inbox = list(self._inbox), deque()
        for part in [*waiting, *self._jobs]:
            if isinstance(part, _Job):
                self._finish(part, Closed(failure.reason))
            else:
                self._running[part.index] = part
        for index in list(self._running):
            self._end(index, failure)


@dataclass(frozen=True)
class _Cancel:
    """The handle of a running request."""

    scheduler: ContinuousBatching
    index: int

    def cancel(self) -> None:
        """See `Stream`."""
        self.scheduler.cancel(self.index)
