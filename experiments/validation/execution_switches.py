"""The work of each switch of executing programs: references, damaged references and endless programs of a suite."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.problems.loading import load
from runtime_matrix.experiments.sandbox.pool import Pool
from runtime_matrix.experiments.sandbox.program import Program
from runtime_matrix.experiments.sandbox.time_limits import fixed_limits, time_limits
from runtime_matrix.experiments.sandbox.verdicts import VerdictCache
from runtime_matrix.experiments.tasks.bench import Bench
from runtime_matrix.experiments.tasks.judging import reference_program
from runtime_matrix.experiments.validation.ablation import Switch
from runtime_matrix.experiments.validation.damaged import damaged
from runtime_matrix.experiments.validation.tasks.execution import EXECUTION_SWITCHES, ExecutionConfig

_ENDLESS = "while True:\n    pass\n"
_ENDLESS_PAIRS = 3  # each turn waits for limits of seconds
Statuses = list[str]


@dataclass(frozen=True)
class _Judged:
    """A program of a problem."""

    problem: str
    program: Program


class ExecutionSwitches:
    """The switches over the programs of a suite."""

    def __init__(self, bench: Bench, config: ExecutionConfig, path: Path, opened: ExitStack):
        self._folder, self._options, self._opened = bench.folder, bench.sandbox, opened
        self._pools: dict[tuple[int, bool], Pool] = {}
        problems = load(path, config.limit)
        self._references = {problem.id: reference_program(problem) for problem in problems}
        known = [_Judged(name, program) for name, program in self._references.items() if program is not None]
        if not known:
            raise UserError(f"{path}: no problem has a reference solution, of which the programs are made")
        self._passing, self._failing = self._sorted([*known, *_damaged(known, config.damaged, bench.seed)])
        if not self._failing:
            raise UserError(f"{path}: no damaged reference fails: raise benchmark.execution.damaged")
        self._endless = [
            replace(item, program=replace(item.program, code=_ENDLESS)) for item in known[: config.endless]
        ]

    def all(self) -> list[Switch]:
        """Return all switches in the order of the table."""
        cores = len(os.sched_getaffinity(0))
        run, every = self._run, [*self._passing, *self._failing]
        with_endless = [*self._endless, *every]
        works: dict[str, tuple[Callable[[], Statuses], Callable[[], Statuses]]] = {
            "early stop of tests": (
                partial(run, self._failing, early_stop=True),
                partial(run, self._failing, early_stop=False),
            ),
            "early stop of tests that pass": (
                partial(run, self._passing, early_stop=True),
                partial(run, self._passing, early_stop=False),
            ),
            "adaptive time limits": (
                partial(run, with_endless, limits="adaptive"),
                partial(run, with_endless, limits="fixed"),
            ),
            "two test workers": (partial(run, every, workers=2), partial(run, every, workers=1)),
            "more test workers than cores": (
                partial(run, every, workers=2 * cores),
                partial(run, every, workers=cores),
            ),
            "cached verdicts": (partial(run, every, cached=True), partial(run, every)),
        }
        most_pairs = {"adaptive time limits": _ENDLESS_PAIRS}
        sizes = {
            "early stop of tests": f"{len(self._failing)} programs",
            "early stop of tests that pass": f"{len(self._passing)} programs",
            "adaptive time limits": f"{len(self._endless)} of {len(with_endless)} programs",
        }
        all_sizes = f"{len(every)} programs"
        return [
            Switch(name, *works[name], most_pairs.get(name), sizes.get(name, all_sizes)) for name in EXECUTION_SWITCHES
        ]

    def _sorted(self, programs: Sequence[_Judged]) -> tuple[list[_Judged], list[_Judged]]:
        """Return the programs that pass and those that fail, without those that end otherwise or take long."""
        pool, limits = self._pool(2), replace(fixed_limits(self._options), cpu_s=1)
        futures = [pool.submit(item.program, limits) for item in programs]
        statuses = [future.result().status for future in futures]
        passing, failing = (
            [item for item, status in zip(programs, statuses, strict=True) if status == wanted]
            for wanted in ("passed", "failed")
        )
        return passing, failing

    def _run(
        self,
        programs: Sequence[_Judged],
        workers: int = 2,
        early_stop: bool = True,
        limits: str = "fixed",
        cached: bool = False,
    ) -> Statuses:
        """Judge the programs as the benchmark `code` does, and return their statuses."""
        options, pool = replace(self._options, time_limits=limits), self._pool(workers, early_stop)
        own = time_limits(pool, options, self._references, self._folder / "reference-times.sqlite")
        cache = VerdictCache(self._folder / "verdicts.sqlite" if cached else None, fixed_limits(options))
        known = [cache.get(item.program, own.of(item.problem).cpu_s) for item in programs]
        futures = {
            at: pool.submit(item.program, own.of(item.problem)) for at, item in enumerate(programs) if known[at] is None
        }
        fresh = {at: future.result() for at, future in futures.items()}
        cache.keep([(programs[at].program, verdict) for at, verdict in fresh.items()])
        cache.close()
        return [(verdict or fresh[at]).status for at, verdict in enumerate(known)]

    def _pool(self, workers: int, early_stop: bool = True) -> Pool:
        """Return a sandbox that stays open, since starting one can take as long as hundreds of programs."""
        if (workers, early_stop) not in self._pools:
            options = self._options
            pool = Pool(workers, fixed_limits(options), options.allow_unsafe, options.bubblewrap, early_stop=early_stop)
            self._pools[workers, early_stop] = self._opened.enter_context(pool)
        return self._pools[workers, early_stop]


def _damaged(known: Sequence[_Judged], count: int, seed: int) -> list[_Judged]:
    """Return up to `count` different damaged versions of each program."""
    items = []
    for item in known:
        versions = [damaged(item.program.code, f"{seed} {item.problem} {number}") for number in range(count)]
        codes = dict.fromkeys(code for code in versions if code is not None)
        items += [replace(item, program=replace(item.program, code=code)) for code in codes]
    return items
