"""An asyncio loop in a thread of its own, so that callers without asyncio can have many requests in flight."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
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
        """Start a coroutine that may be cancelled."""
        return Running(self._loop, work)

    def run_all(
        self, work: Callable[[Any], AsyncIterator[T]], items: Sequence[Any], at_once: int
    ) -> Generator[T, None, None]:
        """Yield what `work` yields for each item, at most `at_once` items at the same time.

        The first exception ends the iteration and cancels the other items, as does closing the iterator.
        """
        results: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        future = self.start(_all(work, items, at_once, results))
        future.add_done_callback(lambda _: results.put((True, None)))  # also if the loop ends before it has begun
        try:
            while True:
                is_last, value = results.get()
                if is_last:
                    break
                yield value
            future.result()
        finally:
            future.cancel()

    def close(self, last: Coroutine[Any, Any, None] | None = None) -> None:
        """Cancel all coroutines, run `last`, and end the thread. Safe to call twice, without `last` then."""
        if self._loop.is_closed():
            return
        with suppress(TimeoutError):
            self.start(_wind_up(last)).result(_CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_S)
        if not self._thread.is_alive():
            self._loop.close()


class Running:
    """A coroutine that runs in the loop's thread. It is entered even if it is cancelled at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]):
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        loop.call_soon_threadsafe(self._begin, work)

    def cancel(self) -> None:
        """Cancel the coroutine, unless it has ended."""
        with suppress(RuntimeError):  # the loop is closed, and the coroutine has ended with it
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


async def _wind_up(last: Coroutine[Any, Any, None] | None) -> None:
    """Cancel all other coroutines, wait for their ends, and then for `last`."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    if last is not None:
        await last
    await asyncio.get_running_loop().shutdown_asyncgens()
