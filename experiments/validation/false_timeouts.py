"""Prove the time limits of programs: beside a load on every core, no reference solution is ended by its limit.

  python -m experiments.validation.false_timeouts data=HumanEval.jsonl.gz,mbpp.jsonl

Each round measures the limits on the machine as it is and then starts the load: processes that multiply matrices, one
per core. All references run beside it, and those that come near a fixed limit again with that limit. Own options: data,
files of problems with references, separated by commas; rounds (10); fixed, limits in seconds to compare with (5,10). It
also takes the overrides of `python -m experiments.run`. The table is RESULTS_DIR/false_timeouts.md. Returns 1 if a
reference failed under its adaptive limit.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.cells.overrides import own_words
from runtime_matrix.experiments.cli.command import run_command
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import recorded_command
from runtime_matrix.experiments.config.schema import SandboxConfig
from runtime_matrix.experiments.problems.loading import load
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.sandbox.layers import Limits
from runtime_matrix.experiments.sandbox.pool import Pool
from runtime_matrix.experiments.sandbox.program import Program, Verdict
from runtime_matrix.experiments.sandbox.time_limits import fixed_limits, time_limits
from runtime_matrix.experiments.tasks.judging import reference_program
from runtime_matrix.experiments.validation.load import busy_cores

_OWN_OPTIONS: dict[str, str | None] = {"data": None, "rounds": "10", "fixed": "5,10"}
_NEAR = 0.02  # of a fixed limit: references that take less cannot reach it
_ADAPTIVE = "adaptive"


@dataclass
class Tally:
    """The runs of references under one rule of limits."""

    runs: int = 0
    failures: list[str] = field(default_factory=list)
    closest: float = 0.0  # largest share of its limit that a reference took
    closest_name: str = ""

    def add(self, name: str, verdict: Verdict, limits: Limits) -> None:
        """Count one run."""
        self.runs += 1
        if not verdict.passed:
            self.failures.append(f"{name}: {verdict.status} ({verdict.reason})")
        if verdict.cpu_s is not None and verdict.cpu_s / limits.cpu_s > self.closest:
            self.closest, self.closest_name = verdict.cpu_s / limits.cpu_s, name


def main(argv: Sequence[str] | None = None) -> int:
    """Run the references and write the table. Return 1 if one failed under its adaptive limit, 2 for a mistake."""
    return run_command(argv, __doc__, _prove)


def _prove(words: Sequence[str]) -> int:
    own, given = own_words(words, _OWN_OPTIONS)
    if own["data"] is None:
        raise UserError("data is missing: give files of problems with references, as in data=HumanEval.jsonl.gz")
    rounds, *fixed = (_number(name, text) for name in ("rounds", "fixed") for text in str(own[name]).split(","))
    paths = [Path(path).expanduser() for path in own["data"].split(",")]
    shown = [f"data={','.join(path.name for path in paths)}" if word.startswith("data=") else word for word in words]
    command = recorded_command("validation.false_timeouts", shown)
    config = plan(compose(given.overrides), command).config
    options = replace(config.sandbox, time_limits="adaptive")
    references = _references(paths)
    tallies = {_ADAPTIVE: Tally()} | {f"{limit} s": Tally() for limit in fixed}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            _round(options, references, tallies, Path(folder) / "reference-times.sqlite")
            counts = ", ".join(f"{name} {len(tally.failures)} of {tally.runs}" for name, tally in tallies.items())
            print(f"round {number + 1} of {rounds}, failed so far: {counts}", flush=True)
    path = Path(config.results_dir) / "false_timeouts.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_table(tallies, rounds, len(references), options, command)) + "\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8"), f"written: {path}", sep="\n")
    return 1 if tallies[_ADAPTIVE].failures else 0


def _number(name: str, text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"{name}={text} must be a number of at least 1")
    return int(text)


def _references(paths: Sequence[Path]) -> dict[str, Program]:
    references: dict[str, Program] = {}
    for path in paths:
        for problem in load(path):
            if (program := reference_program(problem)) is not None:
                name = problem.id if "/" in problem.id else f"{path.name.partition('.')[0]} {problem.id}"
                references[name] = program
    if not references:
        raise UserError(f"{', '.join(map(str, paths))}: no problem has a reference solution")
    return references


def _round(options: SandboxConfig, references: dict[str, Program], tallies: dict[str, Tally], path: Path) -> None:
    workers = options.workers or len(os.sched_getaffinity(0))
    fixed = fixed_limits(options)
    with Pool(workers, fixed, options.allow_unsafe, options.bubblewrap) as pool:
        limits = time_limits(pool, options, references, path)
        with busy_cores():
            own = {name: limits.of(name) for name in references}
            verdicts = _run(pool, references, own, tallies[_ADAPTIVE])
            for name, tally in tallies.items():
                if name == _ADAPTIVE:
                    continue
                limit = replace(fixed, cpu_s=int(name.split()[0]))
                slow = {
                    known: references[known]
                    for known, verdict in verdicts.items()
                    if verdict.cpu_s is None or verdict.cpu_s > _NEAR * limit.cpu_s
                }
                _run(pool, slow, dict.fromkeys(slow, limit), tally)


def _run(pool: Pool, programs: dict[str, Program], limits: dict[str, Limits], tally: Tally) -> dict[str, Verdict]:
    futures = {name: pool.submit(program, limits[name]) for name, program in programs.items()}
    verdicts = {name: future.result() for name, future in futures.items()}
    for name, verdict in verdicts.items():
        tally.add(name, verdict, limits[name])
    return verdicts


def _table(tallies: dict[str, Tally], rounds: int, count: int, options: SandboxConfig, command: str) -> list[str]:
    machine = environment()
    lines = [
        "# False time-outs of reference solutions",
        "",
        f"{machine.processor}, {machine.cores} cores, commit {(machine.commit or 'unknown')[:7]}, load at the end "
        f"{machine.load_average[0]:.1f}, `{command}`. {count:,} references in {rounds} round(s), beside one process "
        "per core that multiplies matrices; the limits were measured before it started. Adaptive limits are "
        f"{options.time_multiple:g} times the reference's units, from {options.time_floor:g} to "
        f"{options.time_ceiling:g} units. References below {_NEAR:.0%} of a fixed limit were not run again under it.",
        "",
        "| limits | runs | failed | nearest to its limit |",
        "| --- | ---: | ---: | --- |",
    ]
    for name, tally in tallies.items():
        nearest = f"{tally.closest_name}: {tally.closest:.0%}" if tally.runs else "none came near"
        lines.append(f"| {name} | {tally.runs:,} | {len(tally.failures):,} | {nearest} |")
    failures = [f"- {name}: {text}" for name, tally in tallies.items() for text in sorted(set(tally.failures))]
    return [*lines, *([""] if failures else []), *failures]


if __name__ == "__main__":
    sys.exit(main())
