"""Judges programs of a benchmark's problems: verdicts come from the cache where known, otherwise from the sandbox."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from runtime_matrix.experiments.config.schema import SandboxConfig
from runtime_matrix.experiments.problems.languages import language_of
from runtime_matrix.experiments.problems.loading import Problem
from runtime_matrix.experiments.sandbox.checks import plan_checks, verdict_is_inside
from runtime_matrix.experiments.sandbox.interpreter_pool import InterpreterPool
from runtime_matrix.experiments.sandbox.interpreters import unsupported
from runtime_matrix.experiments.sandbox.kept_programs import calls_key
from runtime_matrix.experiments.sandbox.outputs import Outputs
from runtime_matrix.experiments.sandbox.pool import Pool
from runtime_matrix.experiments.sandbox.program import Program, Verdict
from runtime_matrix.experiments.sandbox.references import ReferenceOutputs
from runtime_matrix.experiments.sandbox.time_limits import TimeLimits, fixed_limits, time_limits
from runtime_matrix.experiments.sandbox.verdicts import VerdictCache
from runtime_matrix.experiments.tasks.bench import Bench
from runtime_matrix.experiments.tasks.strategy_driver import Call
from runtime_matrix.runtimes.base import Unsupported


def program_of(problem: Problem, completion: str) -> Program:
    """Return the program that a completion makes, with the problem's test."""
    return Program(
        problem.head + completion,
        problem.test,
        problem.entry_point,
        problem.calls_check,
        problem.helpers,
        problem.cases,
    )


def reference_program(problem: Problem) -> Program | None:
    """Return the program of the reference solution; None if there is none."""
    return None if problem.reference is None else program_of(problem, problem.reference)


def with_cases(problems: Sequence[Problem], pool: Pool, path: Path | None) -> list[Problem]:
    """Return the problems, with the expected outputs of those whose tests are inputs; `path` is of their cache."""
    suites = [problem.suite for problem in problems if problem.suite is not None]
    if not suites:
        return list(problems)
    outputs = ReferenceOutputs(path, pool)
    try:
        cases = dict(zip(suites, outputs.cases(suites), strict=True))
    finally:
        outputs.close()
    return [
        problem if problem.suite is None else replace(problem, test="", cases=cases[problem.suite])
        for problem in problems
    ]


def _pool(language: str | None, workers: int, options: SandboxConfig) -> Pool:
    """Return the pool for programs of a language; Unsupported if the sandbox never runs it."""
    limits = fixed_limits(options)
    if language is not None:
        if (reason := unsupported(language)) is not None:
            raise Unsupported(reason)
        return InterpreterPool(language, workers, limits, options.bubblewrap)
    return Pool(
        workers,
        limits,
        options.allow_unsafe,
        options.bubblewrap,
        early_stop=options.early_stop,
        packages=options.packages,
    )


class Judge:
    """The sandbox of a benchmark with its verdict cache; `stack` closes both."""

    def __init__(self, bench: Bench, problems: Sequence[Problem], use_cache: bool, stack: ExitStack):
        options = bench.sandbox
        limits, early_stop = fixed_limits(options), options.early_stop
        workers = options.workers or len(os.sched_getaffinity(0))
        language = language_of(problems)
        self._pool = stack.enter_context(_pool(language, workers, options))
        path = bench.artifacts / "verdicts.sqlite" if use_cache else None
        self._cache = VerdictCache(path, limits, early_stop, self._pool.versions)
        self._shards = bench.kept_programs
        stack.callback(self._cache.close)
        self._problems = with_cases(problems, self._pool, bench.artifacts / "expected-outputs.sqlite")
        own = {problem.id: reference_program(problem) for problem in self._problems}
        self._limits = TimeLimits(limits)
        if language is None:
            self._limits = time_limits(self._pool, options, own, bench.artifacts / "reference-times.sqlite")
        self._started: dict[tuple[int, str], tuple[Program, Verdict | Future[Verdict]]] = {}

    def start(self, item: int, completion: str) -> None:
        """Start the hidden tests of a completion of a problem, unless they were started before."""
        if (item, completion) not in self._started:
            program = self.program(item, completion)
            self._started[item, completion] = (program, self._judged(item, program))

    def of_completions(self, completions: Sequence[Sequence[str]]) -> list[list[Verdict]]:
        """Return the verdicts per problem and completion; blocks until the last program has ended."""
        for item, texts in enumerate(completions):
            for text in texts:
                self.start(item, text)
        fresh: list[tuple[Program, Verdict]] = []
        result = [[self._known(item, text, fresh) for text in texts] for item, texts in enumerate(completions)]
        self._cache.keep(fresh)
        return result

    def program(self, item: int, completion: str) -> Program:
        """Return the program of a completion with the hidden tests of its problem."""
        return program_of(self._problems[item], completion)

    def verdicts(self, programs: Sequence[tuple[int, Program]]) -> list[Verdict]:
        """Return the verdict of each (problem, program), for tests of any kind."""
        known = [self._judged(item, program) for item, program in programs]
        verdicts = [verdict.result() if isinstance(verdict, Future) else verdict for verdict in known]
        fresh = [
            (program, verdict)
            for (_, program), verdict, before in zip(programs, verdicts, known, strict=True)
            if isinstance(before, Future)
        ]
        self._cache.keep(fresh)
        return verdicts

    def outputs(self, calls: Sequence[Call]) -> list[Outputs]:
        """Return what each program returns for its inputs."""
        keys = [calls_key(call.code, call.entry_point, call.inputs) for call in calls]
        known = [self._shards.outputs(key) if self._shards is not None else None for key in keys]
        running = {
            at: self._pool.outputs(
                call.code, call.entry_point, call.inputs, self._limits.of(self._problems[call.item].id)
            )
            for at, call in enumerate(calls)
            if known[at] is None
        }
        for at, future in running.items():
            known[at] = result = future.result()
            if self._shards is not None:
                self._shards.keep_outputs(keys[at], result)
        return [outputs for outputs in known if outputs is not None]

    def figures(self) -> Mapping[str, object]:
        """Return the sandbox's layers, what it ran with, and the use of the verdict cache."""
        inside = sum(
            problem.language is not None
            or verdict_is_inside(plan_checks(problem.test, problem.entry_point, problem.calls_check))
            for problem in self._problems
        )
        return {
            "sandbox_layers": self._pool.level,
            "sandbox_note": self._pool.note,
            "sandbox_versions": self._pool.versions,
            **self._limits.figures(),
            "cached_verdicts": self._cache.hits,
            "verdicts_note": self._cache.note,
            "skipped_inputs": sum(problem.cases.skipped for problem in self._problems if problem.cases is not None),
            "problems_judged_inside_the_program": inside,
        }

    def _judged(self, item: int, program: Program) -> Verdict | Future[Verdict]:
        limits = self._limits.of(self._problems[item].id)
        if self._shards is None:
            return self._cache.get(program, limits.cpu_s) or self._pool.submit(program, limits)
        if (known := self._shards.verdict(program)) is not None:
            return known
        if (cached := self._cache.get(program, limits.cpu_s)) is not None:
            self._shards.keep_verdict(program, cached)
            return cached
        running = self._pool.submit(program, limits)
        self._shards.when_ended(program, running)
        return running

    def _known(self, item: int, text: str, fresh: list[tuple[Program, Verdict]]) -> Verdict:
        program, verdict = self._started[item, text]
        if isinstance(verdict, Future):
            verdict = verdict.result()
            self._started[item, text] = (program, verdict)
            fresh.append((program, verdict))
        return verdict
