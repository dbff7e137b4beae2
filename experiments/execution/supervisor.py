"""Run jobs in child processes with a process group and a time limit each; every ending becomes an outcome."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.execution import guard
from runtime_matrix.experiments.execution.outcome import Outcome, kernel_kills, outcome_of
from runtime_matrix.experiments.execution.running import TICK_S, Job, Running, watch
from runtime_matrix.experiments.execution.worker import jobs as child
from runtime_matrix.experiments.measurement.memory import MemoryTrace
from runtime_matrix.experiments.measurement.processes import cpu_of
from runtime_matrix.experiments.records.journal import Journal

_SILENCE = "runtime_matrix.experiments.execution.silence"  # importing it silences the process
_PREFORK_IMPORTS = "runtime_matrix.experiments.execution.prefork_imports"
_GRACE_S = 10.0  # between SIGTERM, after which the current batch is still written, and SIGKILL
_LAST_S = 5.0  # to wait for a process after SIGKILL
_CANNOT_FORK = 3  # exit code of a forked process that could not use a GPU
_SET_FOR_CHILDREN = (
    *(guard.NAME, "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "PYTHONWARNINGS"),
    *("PYTORCH_NVML_BASED_CUDA_CHECK", "CUDA_DEVICE_ORDER"),
)
_TRACED = ("measure", "shard")  # jobs whose memory over time is written to their journal


def preload(model_types: set[str], *modules: str) -> list[str]:
    """Return the modules that a fork server imports: those for these transformers model types, and `modules`."""
    kinds = [f"transformers.models.{kind}.modeling_{kind}" for kind in sorted(model_types)]
    return [_SILENCE, "torch", "transformers", *kinds, *modules, _PREFORK_IMPORTS]


def stop_server() -> None:
    """End the fork server, so that the next process comes from a new server with a new memory layout."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # there is no public function


@dataclass(frozen=True)
class _Kept:
    """A measuring process whose loaded base waits for the next adapter."""

    process: Any
    receiver: Any
    orders: Any
    cell: Cell


class Children:
    """Starts the processes of a sweep: `launch` is fork, from a server that has imported torch, or exec.

    A process that measured an adapter keeps its base for the cell that is expected next, if that differs in the adapter
    alone. Call `close` at the end.
    """

    def __init__(self, launch: str, model_types: set[str], threads: int):
        self._threads = threads
        self._kept: _Kept | None = None
        self._expected: Cell | None = None
        self._is_ready = launch != "fork"
        self._context: Any = multiprocessing.get_context("forkserver" if launch == "fork" else "spawn")
        if launch == "fork":
            self._context.set_forkserver_preload(preload(model_types, "pytest", "pytest_benchmark.plugin"))

    def run(
        self,
        name: str,
        cell: Cell,
        folder: Path,
        limit_s: float,
        on_progress: Callable[[Any], None] = lambda _: None,
        argument: Any = None,
    ) -> Outcome:
        """Run one job until it ends or reaches `limit_s`; KeyboardInterrupt ends the child and is raised again.

        `argument` is passed to the job.
        """
        started = self._begin(Job(name, cell, folder, limit_s, on_progress, argument))
        if isinstance(started, Outcome):
            return started
        try:
            _, ending = watch([started])
        except KeyboardInterrupt:
            end_process(started.process)
            raise
        return self._ended(started, ending)

    def run_together(
        self,
        jobs: Sequence[Job],
        is_repeated: Callable[[int, Outcome], bool],
        on_stopped: Callable[[int, Outcome], None],
    ) -> None:
        """Run jobs at the same time until the last has ended.

        `is_repeated` is called with the index of each job that ends, and says whether it is started again.
        KeyboardInterrupt ends all at once and is raised again; `on_stopped` is called before for those that ran.
        """
        running: dict[int, Running] = {}

        def begin(index: int) -> None:
            while isinstance(started := self._begin(jobs[index]), Outcome):
                if not is_repeated(index, started):
                    return
            running[index] = started

        try:
            for index in range(len(jobs)):
                begin(index)
            while running:
                ended, ending = watch(list(running.values()))
                index = next(index for index, one in running.items() if one is ended)
                del running[index]
                if is_repeated(index, self._ended(ended, ending)):
                    begin(index)
        except KeyboardInterrupt:
            end_processes([one.process for one in running.values()])
            for index, one in running.items():
                on_stopped(index, Outcome("interrupted", "interrupted", one.process.exitcode, one.job_cpu_s))
            raise

    def _begin(self, job: Job) -> Running | Outcome:
        """Return the started job; an outcome if its process cannot be started."""
        kept = self._waiting(job.cell) if job.name == "measure" else None
        if kept is not None:
            process, receiver, orders = kept.process, kept.receiver, kept.orders
            with contextlib.suppress(OSError):  # it has ended: its sentinel says so
                orders.send((job.cell, job.folder, self._shares_base(job.cell)))
        else:
            self.wait_for_server(job.on_progress)
            (receiver, sender), (taken, orders) = (self._context.Pipe(duplex=False) for _ in range(2))
            argument = job.argument
            if job.name == "measure":
                argument = taken if self._shares_base(job.cell) else None
            with child_environment(self._threads):
                # A fork server keeps the environment of its start; keys may have been exported since.
                variables = dict(os.environ)
            process = self._context.Process(
                target=child.main, args=(variables, job.name, job.cell, job.folder, sender, argument), daemon=False
            )
            if not self._start(process, job.on_progress):
                return Outcome("crash", "its process could not be started: the fork server ended twice", None)
            sender.close()
            taken.close()
        before_cpu_s = (cpu_of(process.pid) or 0.0) if kept is not None else 0.0
        deadline = time.monotonic() + job.limit_s
        return Running(job, process, receiver, orders, deadline, MemoryTrace(process.pid), before_cpu_s=before_cpu_s)

    def _shares_base(self, cell: Cell) -> bool:
        """Return whether the cell that is expected next can use the base that this cell loads."""
        return self._expected is not None and cell.shares_base_with(self._expected)

    def _ended(self, ended: Running, ending: str | None) -> Outcome:
        """Return the outcome of a job whose process ended, keeps its base, or reached its deadline (None)."""
        job, process = ended.job, ended.process
        if job.name in _TRACED:
            Journal(job.folder / "journal.jsonl").write("memory_trace", samples=ended.trace.samples)
        if ending == child.KEPT:
            self._kept = _Kept(process, ended.receiver, ended.orders, job.cell)
            return outcome_of(job.name, job.folder, 0, was_out_of_memory=False, cpu_s=ended.job_cpu_s)
        if ending is None:
            end_process(process)
            reason = f"longer than time_limit_s={job.limit_s:g}"
            return Outcome("timeout", reason, process.exitcode, ended.job_cpu_s)
        process.join()
        _sweep_group(process.pid)
        was_out_of_memory = kernel_kills() > ended.kills_before
        return outcome_of(job.name, job.folder, process.exitcode, was_out_of_memory, ended.job_cpu_s)

    def expect(self, cell: Cell | None) -> None:
        """Say which cell is measured after the next one; None: there is none."""
        self._expected = cell

    def close(self) -> None:
        """End the process that keeps a base, if there is one."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.orders.close()
            kept.process.join(_GRACE_S)
            end_process(kept.process)

    def _waiting(self, cell: Cell) -> _Kept | None:
        """Return the process whose base serves the cell; a process with another base is ended."""
        kept = self._kept
        if kept is None or not kept.cell.shares_base_with(cell) or kept.process.exitcode is not None:
            self.close()
            return None
        self._kept = None
        return kept

    def _start(self, process: Any, on_progress: Callable[[Any], None]) -> bool:
        for _ in range(2):
            try:
                with child_environment(self._threads):
                    process.start()
            except (EOFError, OSError):  # the fork server was ended: the next attempt starts another one
                self._is_ready = self._context.get_start_method() != "forkserver"
                self.wait_for_server(on_progress)
            else:
                return True
        return False

    def wait_for_server(self, on_progress: Callable[[Any], None]) -> None:
        """Wait some seconds until the fork server has imported its modules; call `on_progress(None)` meanwhile."""
        if not self._is_ready and not wait_for_server(self._context, self._threads, lambda: on_progress(None)):
            stop_server()
            self._context = multiprocessing.get_context("spawn")
        self._is_ready = True


def wait_for_server(context: Any, threads: int, tick: Callable[[], None]) -> bool:
    """Start the fork server of a context, and call `tick` until it has imported its modules.

    Return False if an import initialised CUDA: then no forked process can use a GPU.
    """
    first = context.Process(target=_check_fork, daemon=True)

    def start() -> None:  # returns when the server replies
        with contextlib.suppress(EOFError, OSError):  # it was ended; the next start reports it
            first.start()

    starting = threading.Thread(target=start, daemon=True)
    with child_environment(threads):
        starting.start()
        while starting.is_alive():
            starting.join(TICK_S)
            tick()
    with contextlib.suppress(AssertionError):  # the process was not started
        first.join(_LAST_S)
    return bool(first.exitcode != _CANNOT_FORK)


@contextlib.contextmanager
def child_environment(threads: int) -> Iterator[None]:
    """Set the environment that torch reads at import, in a fork server or a child; it is restored at the end.

    A child imports its parent's `__main__` again. Without a guard in the user's script that would run it again, so
    children see an empty `__main__`; they need only our modules.
    """
    before, main = dict(os.environ), sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    os.environ[guard.NAME] = guard.mark()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # Packages look for a GPU at import. A query through CUDA would keep forked processes from using it; a query
    # through NVML does not.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # the order of nvidia-smi, instead of the fastest first
    # Spinning threads would take the cores of the process that is timed.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A child that crashed or skipped Python's shutdown leaves semaphores behind.
    warnings = filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker:UserWarning"])
    os.environ["PYTHONWARNINGS"] = ",".join(warnings)
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        del os.environ[name]  # a surrounding pytest must not configure the pytest of a cell
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        for name in _SET_FOR_CHILDREN:
            os.environ.pop(name, None)
        os.environ.update(before)


def _check_fork() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda._is_in_bad_fork():
        sys.exit(_CANNOT_FORK)


def end_process(process: Any) -> None:
    """End a process and its group, see `end_processes`."""
    end_processes([process])


def end_processes(processes: Sequence[Any]) -> None:
    """End processes and their groups, all at the same time: SIGTERM, and SIGKILL after 10 s."""
    for sign, patience_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _LAST_S)):
        until = time.monotonic() + patience_s
        left = [process for process in processes if process.exitcode is None]
        for process in left:
            _signal_group(process.pid, sign)
        for process in left:
            process.join(max(0.0, until - time.monotonic()))
    for process in processes:
        _sweep_group(process.pid)


def _sweep_group(pid: int | None) -> None:
    _signal_group(pid, signal.SIGKILL)  # processes that the cell left running


def _signal_group(pid: int | None, sign: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if pid is not None:
            os.killpg(pid, sign)
