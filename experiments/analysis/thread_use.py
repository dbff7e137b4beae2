"""Whether a cell computed with the threads that it was given, in its timed rounds.

More threads than requested make a comparison unfair. Fewer make the row's number of threads and its thread scaling
false. But engines do not split small work, so fewer threads are a failure only in batches, and only if the cell uses at
most half of them where the reference uses more for the same prompts, in rounds long enough to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from runtime_matrix.experiments.records.comparison import Launch, Side

_ONE_THREAD, _BATCHED = "one_thread", "batched"  # blocks: timed with one thread; large enough to be split
_LEAST_ROUND_CPU_S = 0.02  # of a batch; in shorter rounds, helper threads have shares as large as a computing one's
_MOST_CPU_RATIO = 1.1  # CPU time over wall time and threads; clocks differ by a few percent in short rounds


@dataclass(frozen=True)
class ThreadUse:
    """The number of threads that computed; `problem` is None if it is the requested one."""

    problem: str | None
    text: str
    figures: dict[str, float]


def threads(launches: Sequence[Launch], asked: int, ranks: int = 1) -> ThreadUse | None:
    """Return the use of threads in these launches; None if it was not recorded.

    A model over `ranks` processes computes with at least one thread in each of them.
    """
    if any(launch.device == "cuda" for launch in launches):
        return None
    own = {name: _busy(launches, name, "candidate") for name in _names(launches)}
    counts = {name: count for name, count in own.items() if count is not None}
    if not counts:
        return None
    computed = max((count for name, count in counts.items() if name != _ONE_THREAD), default=1.0)
    ratios = {name: _cpu_ratio(launches, name) for name in counts}
    figures = {
        "asked": float(asked),
        "computed": computed,
        "cpu_per_wall": max(filter(None, ratios.values()), default=0.0),
    }
    for name, count in counts.items():
        allowed = max(ranks, 1 if name == _ONE_THREAD else asked)
        ratio = ratios[name]
        if count > allowed:
            return ThreadUse(f"{_threads(count)} compute where {allowed} {_was(allowed)} requested", "", figures)
        if ratio is not None and ratio > _MOST_CPU_RATIO * allowed:
            return ThreadUse(f"uses {ratio:.2f} s of CPU time per second with {_threads(allowed)}", "", figures)
    in_batches, reference = counts.get(_BATCHED), _busy(launches, _BATCHED, "reference")
    is_large = _round_cpu_s(launches, _BATCHED) >= _LEAST_ROUND_CPU_S
    if is_large and in_batches is not None and reference is not None and in_batches <= asked / 2 < reference:
        problem = (
            f"{_threads(in_batches)} of {asked} {_computes(in_batches)} in batches, {reference:g} of the reference"
        )
        return ThreadUse(problem, "", figures)
    return ThreadUse(None, f"{_threads(computed)} of {asked} {_computes(computed)}", figures)


def _names(launches: Sequence[Launch]) -> list[str]:
    return list(dict.fromkeys(name for launch in launches for name in launch.blocks()))


def _sides(launches: Sequence[Launch], name: str, which: str) -> list[Side]:
    blocks = [launch.blocks()[name] for launch in launches if name in launch.blocks()]
    return [block.candidate if which == "candidate" else block.reference for block in blocks]


def _busy(launches: Sequence[Launch], name: str, which: str) -> float | None:
    counts = [side.busy_threads for side in _sides(launches, name, which) if side.busy_threads is not None]
    return median(counts) if counts else None


def _round_cpu_s(launches: Sequence[Launch], name: str) -> float:
    """Return the CPU seconds of a round of the side that needs less, median over launches; 0 without rounds."""
    per_round = {
        which: [side.rounds_cpu_s / len(side.steps_s) for side in _sides(launches, name, which) if side.steps_s]
        for which in ("candidate", "reference")
    }
    return min(median(times) if times else 0.0 for times in per_round.values())


def _cpu_ratio(launches: Sequence[Launch], name: str) -> float | None:
    """Return the CPU time per wall time of the rounds, median over launches."""
    ratios = []
    for side in _sides(launches, name, "candidate"):
        wall_s = sum(side.prefill.wall_s) + sum(sum(steps) for steps in side.steps_s)
        if side.steps_s and wall_s > 0:
            ratios.append(side.rounds_cpu_s / wall_s)
    return median(ratios) if ratios else None


def _threads(count: float) -> str:
    return f"{count:g} thread{'s' if count != 1 else ''}"


def _computes(count: float) -> str:
    return "computes" if count == 1 else "compute"


def _was(count: float) -> str:
    return "was" if count == 1 else "were"
