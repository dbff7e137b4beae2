"""Limits of CPU time that do not depend on the machine: a multiple of what each problem's own reference takes.

Times are counted in units: the CPU time of a fixed piece of Python work in the same sandbox just before. A problem
without a reference that passes has the median of the others. Does not enforce the limits.
"""

from __future__ import annotations

import hashlib
import math
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.schema import SandboxConfig
from runtime_matrix.experiments.evaluation.kept_texts import KeptTexts
from runtime_matrix.experiments.sandbox.layers import Limits
from runtime_matrix.experiments.sandbox.pool import Pool
from runtime_matrix.experiments.sandbox.program import Program

_VERSION = 1  # raise it when the unit changes
_RUNS = 5  # of the unit; their median counts
_WALL_PER_CPU = 10.0  # seconds of wall time for each of CPU time, since other programs may use the processor too
# 0.05 to 0.1 s on a server. What programs do: arithmetic, dictionaries, lists, texts, calls.
_UNIT = """
def work(count):
    words, table, total = [], {}, 0
    for number in range(count):
        key = number * 7919 % 1009
        table[key] = table.get(key, 0) + number
        if number % 3 == 0:
            words.append(str(key))
        elif number % 5 == 0:
            total += len("".join(words[-5:])) + sum(table.get(at, 0) for at in (key, number % 1009))
    return total + len(sorted(words)) + len(table)
work(100_000)
"""


@dataclass(frozen=True)
class TimeLimits:
    """The limits of the programs of each problem. Without a unit they are the same for all."""

    fixed: Limits
    unit_s: float | None = None
    units: Mapping[str, float] = field(default_factory=dict)  # limit by problem
    by_median: int = 0  # problems without a reference that passes

    def of(self, problem: str) -> Limits:
        """Return the limits of a program that solves the problem."""
        if self.unit_s is None:
            return self.fixed
        # The kernel counts whole seconds.
        cpu_s = math.ceil(self.units[problem] * self.unit_s)
        return replace(self.fixed, cpu_s=cpu_s, wall_s=_WALL_PER_CPU * cpu_s)

    def figures(self) -> JsonObject:
        """Return how the limits were made, for the record."""
        if self.unit_s is None:
            return {"time_limits": "fixed"}
        limits_s = [self.of(problem).cpu_s for problem in self.units]
        return {
            "time_limits": "adaptive",
            "time_unit_s": self.unit_s,
            "time_limits_by_median": self.by_median,
            "least_time_limit_s": min(limits_s),
            "largest_time_limit_s": max(limits_s),
        }


def fixed_limits(options: SandboxConfig) -> Limits:
    """Return the limits of all programs where they are fixed."""
    return Limits(options.cpu_s, options.memory_mib, options.wall_s)


def time_limits(
    pool: Pool, options: SandboxConfig, references: Mapping[str, Program | None], path: Path | None
) -> TimeLimits:
    """Return the limits by problem as the options say.

    Runs the references whose time the file at `path` does not hold. If none passes, the limits are fixed.
    """
    fixed = fixed_limits(options)
    if options.time_limits == "fixed":
        return TimeLimits(fixed)
    unit_s = measured_unit_s(pool)
    largest = Limits(math.ceil(options.time_ceiling * unit_s), options.memory_mib)
    largest = replace(largest, wall_s=_WALL_PER_CPU * largest.cpu_s)
    costs = _costs(pool, largest, unit_s, references, path)
    if not costs:
        return TimeLimits(fixed)
    median = statistics.median(costs.values())
    units = {
        name: min(options.time_ceiling, max(options.time_floor, options.time_multiple * costs.get(name, median)))
        for name in references
    }
    return TimeLimits(fixed, unit_s, units, len(references) - len(costs))


def measured_unit_s(pool: Pool) -> float:
    """Return the CPU seconds of the unit in the sandbox now; UserError if it does not run there."""
    unit = Program(_UNIT, "", "work", calls_check=False)
    verdicts = [future.result() for future in [pool.submit(unit) for _ in range(_RUNS)]]
    times_s = [verdict.cpu_s for verdict in verdicts if verdict.passed and verdict.cpu_s is not None]
    if len(times_s) < _RUNS:
        reason = next(verdict.reason for verdict in verdicts if not verdict.passed)
        raise UserError(f"the sandbox cannot measure time limits ({reason}): set sandbox.time_limits=fixed")
    return statistics.median(times_s)


def _costs(
    pool: Pool, limits: Limits, unit_s: float, references: Mapping[str, Program | None], path: Path | None
) -> dict[str, float]:
    """Return the CPU time of the references that pass, in units, by problem."""
    kept = KeptTexts(path, "reference_units")
    programs = {name: program for name, program in references.items() if program is not None}
    keys = {name: _key(program) for name, program in programs.items()}
    known = kept.get(list(keys.values()))
    futures = {name: pool.submit(program, limits) for name, program in programs.items() if keys[name] not in known}
    verdicts = {name: future.result() for name, future in futures.items()}
    fresh = {
        name: verdict.cpu_s / unit_s
        for name, verdict in verdicts.items()
        if verdict.passed and verdict.cpu_s is not None
    }
    kept.put((keys[name], repr(units)) for name, units in fresh.items())
    kept.close()
    return {name: float(known[key]) for name, key in keys.items() if key in known} | fresh


def _key(reference: Program) -> str:
    python = sys.version_info[:2]  # other versions take other times
    return hashlib.sha256(f"{_VERSION}/{python}/{reference.digest}".encode()).hexdigest()
