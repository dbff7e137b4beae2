"""A switch as the same work with it on and off, the factor between them, and the table of all switches.

The turns are within one process, which is enough for factors but not for verdicts on a few percent (see `compare`).
"""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from runtime_matrix.experiments.measurement.processes import tree_cpu_s
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.switches import CLOCKS, MEMORY
from runtime_matrix.experiments.statistics.paired import mean_interval
from runtime_matrix.experiments.tasks.bench import PhasePeak
from runtime_matrix.runtimes.heap import return_freed

Clock = Callable[[], float]
Figures = dict[str, float | None]
Peak = Callable[[], AbstractContextManager[PhasePeak]]  # measures the memory peaks of its block
_LEAST_S = 1e-6
_TITLES = {"cpu": "by CPU time", "wall": "by wall time", MEMORY: "by peak memory"}


@dataclass(frozen=True)
class Switch:
    """The same work with a switch on and off. The return values must be equal."""

    name: str
    on: Callable[[], Any]
    off: Callable[[], Any]
    most_pairs: int | None = None  # of work that takes long
    work: str = ""  # what the work is, where the options do not say it
    unsupported: str | None = None  # why it cannot be measured here


@dataclass(frozen=True)
class Result:
    """The seconds of each turn with the switch on and off, by clock; the bytes of its peak memory, if measured."""

    on_s: dict[str, list[float]]
    off_s: dict[str, list[float]]

    def figures(self) -> Figures:
        """Return the factor by which each measure is lower with the switch on; bounds are None for a single pair."""
        figures: Figures = {}
        for clock in self.on_s:
            ratios = [math.log(off / on) for on, off in zip(self.on_s[clock], self.off_s[clock], strict=True)]
            interval = mean_interval(ratios)
            ratio = interval.exp() if interval is not None else None
            figures |= {
                clock: ratio.estimate if ratio else math.exp(ratios[0]),
                f"{clock}_low": ratio.low if ratio else None,
                f"{clock}_high": ratio.high if ratio else None,
            }
        return figures

    def samples(self) -> dict[str, list[float]]:
        """Return the seconds and bytes by side and clock, as a record keeps them."""
        sides = {"on": self.on_s, "off": self.off_s}
        return {
            f"{side}_{clock}_{'bytes' if clock == MEMORY else 's'}": values
            for side, by_clock in sides.items()
            for clock, values in by_clock.items()
        }


def cpu_s() -> float:
    """Return the CPU seconds of this process and its descendants, those that have ended included."""
    return tree_cpu_s()


_CLOCKS: dict[str, Clock] = dict(zip(CLOCKS, (cpu_s, time.perf_counter), strict=True))


def measure(switch: Switch, pairs: int, clocks: Mapping[str, Clock] = _CLOCKS, peak: Peak | None = None) -> Result:
    """Run on and off in turns after one warm-up each. AssertionError if the answers differ.

    With `peak`, the memory peak of each turn is measured too: the device's on a GPU, else the host's.
    """
    _assert_same(switch.name, switch.on(), switch.off())
    result = Result({name: [] for name in clocks}, {name: [] for name in clocks})
    for pair in range(min(pairs, switch.most_pairs or pairs)):
        order = [(switch.on, result.on_s), (switch.off, result.off_s)]
        for work, seconds in order if pair % 2 == 0 else reversed(order):
            if peak is not None:
                return_freed()  # what the other side has freed is not this side's
            with peak() if peak is not None else nullcontext() as peaks:
                start = {name: clock() for name, clock in clocks.items()}
                work()
                for name, clock in clocks.items():
                    seconds[name].append(max(_LEAST_S, clock() - start[name]))
            held = peaks and (peaks.device_bytes or peaks.host_bytes)
            if held:
                seconds.setdefault(MEMORY, []).append(float(held))
    return result


def _assert_same(name: str, on: Any, off: Any) -> None:
    if on and isinstance(on[0], float):
        furthest = max(abs(a - b) for a, b in zip(on, off, strict=True))
        assert furthest < 1e-3, f"{name}: scores differ by {furthest}"
    else:
        assert on == off, f"{name}: the answers differ"


def write_table(
    switches: Mapping[str, str],
    factors: Mapping[str, Figures],
    path: Path,
    command: str,
    heading: str,
    conditions: str,
    unsupported: Mapping[str, str] = MappingProxyType({}),
    measures: Sequence[str] = CLOCKS,
) -> None:
    """Write a Markdown table of the measured switches.

    `switches`: names and keys in order. `unsupported`: why a switch has no factors, by name. `measures`: of each
    factor, clocks or memory.
    """
    machine = environment()
    lines = [f"# {heading}", ""]
    lines.append(
        f"{machine.processor}, {machine.cores} cores, torch {machine.versions['torch']}, "
        f"{datetime.date.today().isoformat()}, commit {(machine.commit or 'unknown')[:7]}, load "
        f"{machine.load_average[0]:.1f}, `{command}`. {conditions} CPU time is that of the process and its children. "
        "A factor above 1 is a gain."
    )
    titles = " | ".join(f"{_TITLES[name]} [95 %]" for name in measures)
    lines += ["", f"| switch | key | {titles} |", f"| --- | --- |{' ---: |' * len(measures)}"]
    for name, key in switches.items():
        if name in factors:
            lines.append(f"| {name} | `{key}` | {' | '.join(_factor(factors[name], part) for part in measures)} |")
        elif name in unsupported:
            lines.append(f"| {name} | `{key}` |{' n/a |' * len(measures)}")
    lines += ["", *(f"{name}: {reason}." for name, reason in unsupported.items())] if unsupported else []
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _factor(figures: Figures, clock: str) -> str:
    value, low, high = (figures.get(f"{clock}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return "n/a"
    bounds = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    return f"{value:.2f}{bounds}"
