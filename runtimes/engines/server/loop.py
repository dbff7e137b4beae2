"""An asyncio loop in a thread of its own, so that callers without asyncio can have many requests in flight."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_CLOSE_S = 5.0  # to cancel what is in flight


class Loop:
    """Runs coroutines in a background thread; `close` cancels those that are left."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="server client", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine and return its future."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def begin(self, work: Coroutine[Any, Any, None]) -> Running:
        """Start a coroutine that may be cancelled; it is entered even if it is cancelled at once."""
        return Running(self._loop, work)

    def run_all(self, work: Callable[[Any], AsyncIterator[T]], items: Sequence[Any], at_once: int) -> Iterator[T]:
        """Yield what `work` yields for each item, at most `at_once` items at the same time.

        The first exception ends the iteration and cancels the other items, as does closing the iterator.
        """
        results: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        future = self.start(_all(work, items, at_once, results))
        try:
            while True:
                is_last, value = results.get()
                if is_last:
                    break
                yield value
            future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """Cancel all coroutines and end the thread. Safe to call twice."""
        if self._loop.is_closed():
            return
        self.start(_cancel_others())
        self._loop.call_soon_threadsafe(self._stop_when_idle)
        self._thread.join(_CLOSE_S)
        if not self._thread.is_alive():
            self._loop.close()

    def _stop_when_idle(self, tries: int = 200) -> None:
        if tries and asyncio.all_tasks(self._loop):
            self._loop.call_later(_CLOSE_S / 1000, self._stop_when_idle, tries - 1)
        else:
            self._loop.stop()


class Running:
    """A coroutine that runs in the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]):
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        loop.call_soon_threadsafe(self._begin, work)

    def cancel(self) -> None:
        """Cancel the coroutine, unless it has ended."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._loop.create_task(work)

    def _cancel(self) -> None:
        assert self._task is not None
        self._loop.call_soon(self._task.cancel)  # after its first step


async def _all(
    work: Callable[[Any], AsyncIterator[T]], items: Sequence[Any], at_once: int, results: queue.SimpleQueue[Any]
) -> None:
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            async for result in work(item):
                results.put((False, result))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(items))):
                group.create_task(worker())
    except BaseExceptionGroup as errors:  # the first says what is wrong
        raise errors.exceptions[0] from None
    finally:
        results.put((True, None))


async def _cancel_others() -> None:
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            task.cancel()
