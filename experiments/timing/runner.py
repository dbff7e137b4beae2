"""The parent's side of the processes of a launch: it sends orders, and turns failures into reasons."""

from __future__ import annotations

import json
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
from runtime_matrix.experiments.records.migration import read_record
from runtime_matrix.experiments.timing import worker as interleaved_worker
from runtime_matrix.experiments.timing.injection import Injection

Tick = Callable[[], None]  # called every half second while waiting
_TICK_S = 0.5
_CLOSE_S = 2.0  # that a worker may take to free its runtime once all is compared


@dataclass(frozen=True)
class Runner:
    """A cell to compare; `injection` adds a known slowdown, to test the comparison."""

    cell: Cell
    folder: Path  # of its record
    injection: Injection | None = None

    def held_form(self) -> str:
        """Return the form of the weights, from the cell's record."""
        return read_record(json.loads((self.folder / "record.json").read_text(encoding="utf-8"))).held().form


class Lost(Exception):
    """A worker did not reply; the message is the reason in one line."""


class Worker:
    """One process of a launch. The time limit counts only its own turns."""

    def __init__(self, process: Any, wire: Connection, limit_s: float, tick: Tick):
        self._process, self._wire, self._limit_s, self._tick = process, wire, limit_s, tick

    def ask(self, *order: Any) -> Any:
        """Send an order and return its result; Lost if the worker failed, ended or timed out."""
        self.send(*order)
        return self.result()

    def send(self, *order: Any) -> None:
        """Send an order without waiting; Lost if the worker has ended."""
        try:
            self._wire.send(order)
        except OSError as error:
            raise self._ended() from error

    def hang_up(self) -> None:
        """Send no more orders: the process frees its runtime and ends."""
        self._wire.close()

    def result(self) -> Any:
        """Wait for the result of the last order; Lost if the worker failed, ended or timed out."""
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
    """Start a fresh process for each cell; all are ended with the block. `tick` is called while waiting for them.

    `fork`: from a new fork server that has imported torch. Each launch has its own server, because launches from one
    server would share a memory layout and their intervals would be too narrow.
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
            wire, child_wire = context.Pipe()
            arguments = (runner.cell, runner.folder / "speed.log", child_wire, runner.injection)
            process = context.Process(target=interleaved_worker.main, args=arguments)
            with child_environment(runner.cell.threads):
                process.start()
            child_wire.close()
            processes.append(process)
            workers.append(Worker(process, wire, runner.cell.config.time_limit_s, tick))
        yield workers
        for worker in workers:
            worker.hang_up()
        for process in processes:
            process.join(_CLOSE_S)
    finally:
        end_processes(processes)
