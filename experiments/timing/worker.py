"""The interleaved worker, a process for one cell: it loads, warms up, and runs one round per order.

A round is one generation. Its prompt arrives with the order, so that nothing can be computed or cached before. The
tokens are returned with the times, and with the CPU time used between rounds. After the last round, the worker gives
evidence for the audit.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.evaluation.prompts import Prompts, draw_prompts
from runtime_matrix.experiments.measurement.processes import TreeClock, descendants, tree_cpu_s
from runtime_matrix.experiments.measurement.threads import busy_threads, thread_times, threads_named
from runtime_matrix.experiments.records.audit import Probe, ProbeFailure, Rest
from runtime_matrix.experiments.records.comparison import PeakMemory
from runtime_matrix.experiments.timing.injection import Injection

if TYPE_CHECKING:  # imports torch
    from runtime_matrix.experiments.evaluation.faces import Decoded
    from runtime_matrix.experiments.evaluation.requests import ObserveRequest
    from runtime_matrix.experiments.timing.served import ServedTokens, Slice

_HAND_OVER_S = 2e-3  # largest CPU time to send the tokens and receive a prompt
_REST_S = 0.25  # after the last round, for work that was left for later
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Shape:
    """The size of a round."""

    batch: int
    prompt_tokens: tuple[int, ...]  # shortest and longest
    new_tokens: int


@dataclass(frozen=True)
class Setting:
    """How the following rounds are run."""

    threads: int
    cores: tuple[int, ...]  # that all workers share; empty: no pinning
    shapes: tuple[Shape, ...]
    warm_up: int  # untimed rounds of each shape and shape bucket


@dataclass(frozen=True)
class Loaded:
    """The memory peaks of loading and warming up, and the runtime's largest batch."""

    memory: PeakMemory
    max_batch: int | None
    is_remote: bool = False  # computes elsewhere: its threads, CPU time and memory are not this process's
    banned: tuple[int, ...] = ()  # tokens that it may leave out of its choice


@dataclass(frozen=True)
class Round:
    """The times and tokens of one generation. Times are in seconds; CPU times include child processes."""

    prefill_wall_s: float
    prefill_cpu_s: float
    steps_wall_s: list[float]
    decode_cpu_s: float  # of all steps
    before_cpu_s: float  # since the round before
    recompiles: int | None
    tokens: list[list[int]]  # one list per prompt
    busy_threads: int | None = None  # threads that computed, those of child processes included

    @property
    def wall_s(self) -> float:
        """Return the wall time of the round in seconds."""
        return self.prefill_wall_s + sum(self.steps_wall_s)

    @property
    def cpu_s(self) -> float:
        """Return the CPU time of the round in seconds, child processes included."""
        return self.prefill_cpu_s + self.decode_cpu_s


def main(cell: Cell, log: Path, wire: Connection, injection: Injection | None = None) -> None:
    """Execute orders until the wire is closed; reply ("done", result) or ("failed", status, reason) to each.

    Orders: ("device",), ("load", Setting), ("round", prompts, new tokens), ("rest",), ("probe",), ("spent",),
    ("score", [(ids, first scored token)], banned ids), ("serve", Slice), ("observe", [ObserveRequest]).
    """
    from runtime_matrix.experiments.execution.worker.jobs import isolate

    isolate(log)
    _adopt_orphans()
    os.environ["OMP_NUM_THREADS"] = str(cell.threads)  # before torch is imported
    try:
        with closing(_Worker(cell, injection)) as worker:
            while True:
                order, *arguments = wire.recv()
                wire.send(("done", getattr(worker, order)(*arguments)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the comparison is over
    except BaseException as error:
        from runtime_matrix.experiments.execution.worker.loading import classify

        with suppress(OSError):
            wire.send(("failed", *classify(error)))
    os._exit(0)


class _Worker:
    def __init__(self, cell: Cell, injection: Injection | None):
        self._cell, self._injection = cell, injection
        self._opened = ExitStack()  # closes the runtime that was loaded last
        self._runtime: Any = None
        self._traits: Any = None
        self._face: Any = None
        self._device = "cpu"
        self._threads = 1
        self._besides: frozenset[tuple[int, int]] = frozenset()  # threads that compute nothing
        self._clock = TreeClock()
        # End of the last round, in CPU time of the process tree and of this thread, which sends results after it.
        self._ended_s: tuple[float, float] | None = None
        self._ended_at: float | None = None  # wall clock

    def device(self) -> str:
        """Return the device of the cell, cpu or cuda."""
        from runtime_matrix.experiments.execution.worker.device import resolve

        self._device, _ = resolve(self._cell.config.hw)
        return self._device

    def load(self, setting: Setting) -> Loaded:
        """Load, or load again for another setting; return the memory peaks and the largest batch.

        The peak of device memory is right only if no other process loads at the same time.
        """
        import dataclasses

        from runtime_matrix.experiments.evaluation.faces import face_of
        from runtime_matrix.experiments.execution.worker import device, loading
        from runtime_matrix.experiments.measurement.memory import PeakMeter, Sampler

        self.close()
        self._ended_s = None
        used = device.used_bytes(self._device)
        sampler = Sampler(used) if used is not None else None
        self._runtime = self._opened.enter_context(loading.make_runtime(self._cell.config.runtime))
        threads = setting.threads if self._injection is None else self._injection.threads(setting.threads)
        hardware = dataclasses.replace(self._cell.hardware(self._device), threads=threads)
        self._threads = setting.threads
        meter = PeakMeter()
        with sampler or nullcontext():
            with meter.phase("load"):
                self._traits = loading.load(
                    self._cell, self._runtime, self._cell.config.runtime, hardware, meter.loading_phase
                )
            self._besides = threads_named(self._traits.communicating_threads)
            if self._injection is not None:
                self._runtime = self._injection.wrap(self._runtime, self._cell.artifacts)
            self._face = face_of(self._runtime, self._traits, self._cell.config.generation)
            with meter.phase("generate"):
                for shape in setting.shapes:
                    if shape.batch <= (self._traits.max_batch or shape.batch):
                        self._warm_up(shape, setting.warm_up)
        if self._device == "cpu":  # on a GPU, threads that launch and wait would block each other on one core
            _pin_to(setting.cores)
        self._warm_up(setting.shapes[0], 1)  # the first round on these cores
        peaks = [peak for peak in meter.peaks_bytes.values() if peak is not None]
        is_remote = self._runtime.is_remote
        memory = PeakMemory(
            peak_host_bytes=None if is_remote else max(peaks, default=None),
            peak_device_bytes=sampler.highest if sampler is not None else None,
        )
        banned = tuple(sorted(self._face.banned(self._cell.facts.eos_ids)))
        return Loaded(memory, self._traits.max_batch, is_remote, banned)

    def close(self) -> None:
        """Free what is loaded."""
        self._opened.close()

    def _warm_up(self, shape: Shape, rounds: int) -> None:
        """Run rounds in every shape bucket of the range of prompt lengths."""
        shortest, longest = min(shape.prompt_tokens), max(shape.prompt_tokens)
        by_bucket = {self._traits.buckets.pad_tokens(n): n for n in range(longest, shortest - 1, -1)}
        lengths = sorted(by_bucket.values()) if self._traits.buckets.tokens else [shortest, longest]
        for number in range(rounds):
            for length in lengths:
                key = f"warm-up {os.getpid()} {number}"
                self.round(draw_prompts(key, shape.batch, (length,), self._traits.vocabulary), shape.new_tokens)

    def round(self, prompts: Prompts, new_tokens: int) -> Round:
        """Generate `new_tokens` tokens from each prompt; return times and tokens."""
        before_s, compiled = self._cpu_since_last_round(), self._recompiles()
        if self._device == "cuda":
            self._take_the_gpu(prompts)
        threads_before = thread_times()
        walls, cpus, tokens = self._generate(prompts, new_tokens)
        threads_after = thread_times()
        self._clock.refresh()
        if descendants():  # the clock includes processes started in the round only after the refresh
            cpus[-1] = self._clock()
        self._end()
        after = self._recompiles()
        return Round(
            prefill_wall_s=walls[1] - walls[0],
            prefill_cpu_s=cpus[1] - cpus[0],
            steps_wall_s=[later - earlier for earlier, later in pairwise(walls[1:])],
            decode_cpu_s=cpus[2] - cpus[1],
            before_cpu_s=before_s,
            recompiles=None if after is None or compiled is None else after - compiled,
            tokens=tokens,
            busy_threads=busy_threads(threads_before, threads_after, cpus[2] - cpus[0], self._threads, self._besides)
            if threads_after
            else None,
        )

    def _take_the_gpu(self, prompts: Prompts) -> None:
        """Generate one untimed token from other prompts of this shape.

        The first work after another process includes the switch of GPU contexts, which would count as prefill.
        """
        others = draw_prompts(f"switch {os.getpid()}", len(prompts), (len(prompts[0]),), self._traits.vocabulary)
        self._face.decode(others, 1)
        self._face.synchronize()

    def score(self, requests: Sequence[tuple[Sequence[int], int]], banned: Sequence[int] = ()) -> list[list[float]]:
        """Return per scored token the log-probability of the runtime's top token minus that of the token (nats).

        `banned` tokens do not count as top tokens, see `evaluation.scoring.score`.
        """
        from runtime_matrix.experiments.evaluation.requests import ScoreRequest
        from runtime_matrix.experiments.evaluation.scoring import score

        score_requests = [ScoreRequest(tuple(ids), first_scored) for ids, first_scored in requests]
        scored = score(self._runtime, self._traits, score_requests, self._cell.config.scoring, banned=banned)
        self._clock.refresh()
        self._end()  # scoring is not work of the runtime between rounds
        return [list(result.top1_margins) for result in scored]

    def serve(self, work: Slice) -> ServedTokens:
        """Answer a slice of load, several requests at a time; return times and tokens."""
        from runtime_matrix.experiments.timing.served import serve

        with self._face.intake(min(work.concurrency, self._traits.max_batch or work.concurrency)) as intake:
            result = serve(intake.start, work)
        self._clock.refresh()
        self._end()
        return result

    def observe(self, requests: Sequence[ObserveRequest]) -> float | None:
        """Observe responses as detection does; return the wall seconds, None if the runtime lacks the outputs."""
        from runtime_matrix.experiments.evaluation.observing import OUTPUTS, observe
        from runtime_matrix.runtimes.base import Unsupported

        if not self._traits.outputs >= OUTPUTS:
            return None
        start = time.perf_counter()
        try:
            observe(self._runtime, self._traits, requests, self._cell.config.scoring)
        except Unsupported:  # an engine may learn this from a graph that it builds at its first use
            return None
        self._runtime.synchronize()
        duration_s = time.perf_counter() - start
        self._clock.refresh()
        self._end()
        return duration_s

    def rest(self) -> Rest:
        """Return the CPU time since the last round, after waiting for what may have been left for later."""
        start = time.perf_counter() if self._ended_at is None else self._ended_at
        time.sleep(_REST_S)
        return Rest(wall_s=time.perf_counter() - start, cpu_s=self._cpu_since_last_round())

    def spent(self) -> float:
        """Return the CPU seconds of this process and its children since its start."""
        return tree_cpu_s()

    def probe(self) -> Probe | ProbeFailure:
        """Return the answers to the audit's fixed batch."""
        from runtime_matrix.experiments.execution.worker.loading import take_probe

        return take_probe(self._cell, self._runtime, self._traits)

    def _generate(self, prompts: Prompts, new_tokens: int) -> tuple[list[float], list[float], list[list[int]]]:
        """Return wall times at the start and after each token; CPU times at the start, after the first and the last."""
        clock, synchronize = self._clock, self._face.synchronize
        walls: list[float] = []
        cpus: list[float] = []

        def tick() -> None:
            synchronize()  # asynchronous work of the call is part of the step
            walls.append(time.perf_counter())
            if len(walls) == 2:
                cpus.append(clock())

        synchronize()
        cpus.append(clock())
        walls.append(time.perf_counter())
        decoded: Decoded = self._face.decode(prompts, new_tokens, tick)
        cpus.append(clock())
        return [walls[0], *(decoded.arrived_at_s or walls[1:])], cpus, decoded.tokens

    def _cpu_since_last_round(self) -> float:
        now, known = self._clock(), self._clock.children
        self._clock.refresh()  # reads /proc, which must not count as the runtime's CPU time
        if self._clock.children != known:  # new processes used all their CPU time between rounds
            now = self._clock()
        if self._ended_s is None:
            return 0.0
        ended, own = self._ended_s
        # Bounded, because signal handlers run in this thread too.
        handing_over = min(_HAND_OVER_S, time.thread_time() - own)
        return max(0.0, now - ended - handing_over)

    def _end(self) -> None:
        self._ended_s, self._ended_at = (self._clock(), time.thread_time()), time.perf_counter()

    def _recompiles(self) -> int | None:
        count: int | None = self._runtime.counters().get("recompiles")
        return count


def _adopt_orphans() -> None:
    """Keep processes whose parent has ended among the descendants, so that their CPU time is counted."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _pin_to(cores: Sequence[int]) -> None:
    """Pin every thread of this process and its children to the cores that all workers share.

    Cores of a machine in use differ by several percent, and an unpinned process stays on its core, which would bias the
    whole launch. It is pinned only after loading, because workers load at the same time.
    """
    tasks = [path for pid in (os.getpid(), *descendants()) for path in Path(f"/proc/{pid}/task").glob("*")]
    for task in tasks if cores else []:
        with suppress(OSError):  # the thread has just ended
            os.sched_setaffinity(int(task.name), cores)
