"""The processes of a launch, as their parent sees them: orders go to each, and whatever ends one is a reason."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.execution.supervisor import (
    child_environment,
    end_processes,
    preload,
    stop_server,
    wait_for_server,
)
from runtime_matrix.experiments.timing import worker as interleaved_worker
from runtime_matrix.experiments.timing.injection import Injection

Tick = Callable[[], None]  # called every half second while something is waited for
_TICK_S = 0.5
_CLOSE_S = 2.0  # that a worker may take to free its runtime once all is compared


@dataclass(frozen=True)
class Runner:
    """A cell that is compared; `injection` adds a known slowdown, to test the comparison itself."""

    cell: Cell
    folder: Path  # its record's
    injection: Injection | None = None


class Lost(Exception):
    """A worker gave no answer. One line: why."""


class Worker:
    """One process of a launch. Its time limit counts its own turns."""

    def __init__(self, process: Any, wire: Connection, limit_s: float, tick: Tick):
        self._process, self._wire, self._limit_s, self._tick = process, wire, limit_s, tick

    def ask(self, *order: Any) -> Any:
        """Return the answer to an order. Lost where there is none."""
        self.send(*order)
        return self.result()

    def send(self, *order: Any) -> None:
        try:
            self._wire.send(order)
        except OSError as error:
            raise self._ended() from error

    def hang_up(self) -> None:
        """Send no more orders: the process frees its runtime and ends."""
        self._wire.close()

    def result(self) -> Any:
        """Wait for the answer to what was sent."""
        start = time.monotonic()
        while not wait([self._wire, self._process.sentinel], timeout=min(_TICK_S, self._left(start))):
            self._tick()
            if not self._left(start):
                raise Lost("timeout: longer than time_limit_s")
        try:
            message = self._wire.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        self._limit_s -= time.monotonic() - start
        if message[0] == "failed":
            raise Lost(f"{message[1]}: {message[2]}")
        return message[1]

    def _left(self, start: float) -> float:
        return max(0.0, self._limit_s - (time.monotonic() - start))

    def _ended(self) -> Lost:
        self._process.join(1.0)
        return Lost(f"crash: ended with exit code {self._process.exitcode} while it was compared")


@contextmanager
def started(runners: Sequence[Runner], tick: Tick, fork: bool = False) -> Iterator[list[Worker]]:
    """Start a fresh process for each cell, and call `tick` while they are waited for; all are ended with the block.

    `fork`: from a server that is started for them alone and has imported torch. All launches forked from one server
    would share a memory layout, and intervals over them would be falsely narrow; so each has a server of its own.
    """
    context: Any = multiprocessing.get_context("forkserver" if fork else "spawn")
    if fork:
        stop_server()
        context.set_forkserver_preload(preload({str(runner.cell.facts.model_type) for runner in runners}))
        if not wait_for_server(context, max(runner.cell.threads for runner in runners), tick):
            stop_server()
            context = multiprocessing.get_context("spawn")
    processes: list[Any] = []
    workers = []
    try:
        for runner in runners:
            mine, theirs = context.Pipe()
            arguments = (runner.cell, runner.folder / "speed.log", theirs, runner.injection)
            process = context.Process(target=interleaved_worker.main, args=arguments)
            with child_environment(runner.cell.threads):
                process.start()
            theirs.close()
            processes.append(process)
            workers.append(Worker(process, mine, runner.cell.config.time_limit_s, tick))
        yield workers
        for worker in workers:
            worker.hang_up()
        for process in processes:
            process.join(_CLOSE_S)
    finally:
        end_processes(processes)
