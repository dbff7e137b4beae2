"""Measure the scaling of shards and the cost of interruptions, and write a table of both."""

from __future__ import annotations

import datetime
import math
import random
import statistics
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.paired import mean_interval
from runtime_matrix.experiments.tasks.bench import Bench, Figures, OpenEntry
from runtime_matrix.experiments.validation.shard_runs import Run, ShardRuns
from runtime_matrix.experiments.validation.tasks.shard_scaling import ShardScalingConfig

_EARLIEST, _LATEST = 0.1, 0.8  # when a run is interrupted, as shares of the time that its shards take
Setting = tuple[int, int]  # shards, threads of each
_ONE: Setting = (1, 1)


def measure(bench: Bench, entry: OpenEntry, config: ShardScalingConfig, cores: int) -> None:
    """Fill the entry and write the table. Two shards are measured on any machine, and one per core if there are more.

    The first, untimed run fills the caches that all use, such as the time limits of programs.
    """
    most = max(2, cores)
    settings = list(dict.fromkeys([_ONE, (2, 1), (most, 1), (1, most)]))
    folder = bench.folder / "shard-runs"
    folder.mkdir()
    runs = ShardRuns(folder, _words(config, bench.seed))
    total, done = len(settings) * config.rounds + 2 * config.interruptions, 0
    whole: dict[Setting, list[Run]] = {setting: [] for setting in settings}
    interrupted: dict[str, list[Run]] = {"killed_shard": [], "stopped_run": []}
    runs.whole(2, 1)
    for number in range(config.rounds):
        for setting in settings if number % 2 == 0 else reversed(settings):
            whole[setting].append(runs.whole(*setting))
            bench.report(done := done + 1, total)
    draw = random.Random(bench.seed)
    shards_s = statistics.median(run.shards_s or 0.0 for run in whole[2, 1])
    for _ in range(config.interruptions):
        for name, interrupt in (
            ("killed_shard", runs.with_a_killed_shard),
            ("stopped_run", runs.stopped_and_resumed),
        ):
            interrupted[name].append(interrupt(2, 1, draw.uniform(_EARLIEST, _LATEST) * shards_s))
            bench.report(done := done + 1, total)
    entry.parameters = {"rounds": config.rounds, "interruptions": config.interruptions, "cores": cores}
    entry.samples = _samples(whole, interrupted)
    entry.figures = {**scaling(whole, most), **interruptions(whole[2, 1], interrupted, config.spot_price_factor)}
    _write_table(bench.folder / "shard_scaling.md", bench.command, entry.figures, config, most)


def _words(config: ShardScalingConfig, seed: int) -> list[str]:
    return [
        "benchmark=[multiple_choice,extractive_qa,summarization,code]",
        f"limit={'null' if config.limit is None else config.limit}",
        f"seed={seed}",
        f"benchmark.code.samples={config.samples}",
        f"benchmark.code.temperature={0.8 if config.samples > 1 else 0.0}",
        "benchmark.code.verdict_cache=false",
        "agreement.enabled=false",
        "comparison.enabled=false",
        "hw=cpu",
        *config.overrides,
    ]


def scaling(whole: dict[Setting, list[Run]], most: int) -> Figures:
    """Return rates and efficiency by number of shards; `most` is that of processes of data parallelism."""
    figures: Figures = {}
    for (shards, threads), runs in whole.items():
        if threads > 1:
            continue
        figures[f"shards_{shards}_items_per_hour"] = statistics.median(_rates(runs))
        if shards == 1:
            continue
        speedup = _ratio(_rates(runs), _rates(whole[_ONE]))
        figures |= _bounded(f"shards_{shards}_speedup_ratio", speedup)
        figures |= _bounded(f"shards_{shards}_efficiency_ratio", _over(speedup, shards))
        shares = [_merge_share(run) for run in runs]
        figures[f"shards_{shards}_merge_ratio"] = statistics.mean(shares)
    figures |= _bounded("data_parallel_ratio", _ratio(_rates(whole[most, 1]), _rates(whole[1, most])))
    return figures


def interruptions(whole: Sequence[Run], interrupted: dict[str, list[Run]], price_factor: float) -> Figures:
    """Return the CPU time of interrupted runs over that of whole ones, and what is left of a lower price.

    A run on machines of a lower price is taken to be stopped once; a longer run loses a smaller share.
    """
    figures: Figures = {}
    usual_s = statistics.median(run.cpu_s for run in whole)
    for name, runs in interrupted.items():
        if not runs:
            continue
        ratio = _ratio([run.cpu_s for run in runs], [usual_s] * len(runs))
        figures |= _bounded(f"{name}_cpu_ratio", ratio)
        figures[f"{name}_cpu_s"] = statistics.mean(run.cpu_s - usual_s for run in runs)
        if name == "stopped_run":
            left = {end: figures[f"stopped_run_cpu_ratio{end}"] for end in ("", "_low", "_high")}
            low, high = left["_low"], left["_high"]
            ends = {"": left[""], "_low": high, "_high": low}  # the more is lost, the less is left
            figures |= {
                f"spot_gain_ratio{end}": None if not isinstance(loss, float) else price_factor / loss
                for end, loss in ends.items()
            }
    return figures


def _rates(runs: Sequence[Run]) -> list[float]:
    return [run.items_per_hour for run in runs if run.items_per_hour is not None]


def _merge_share(run: Run) -> float:
    assert run.merge_s is not None
    assert run.shards_s is not None
    return run.merge_s / (run.shards_s + run.merge_s)


def _ratio(values: Sequence[float], others: Sequence[float]) -> Interval | float:
    """Return the geometric mean of paired ratios with its interval; the ratio alone for a single pair."""
    logs = [math.log(value / other) for value, other in zip(values, others, strict=True)]
    interval = mean_interval(logs)
    return math.exp(logs[0]) if interval is None else interval.exp()


def _over(ratio: Interval | float, count: int) -> Interval | float:
    if isinstance(ratio, float):
        return ratio / count
    return Interval(ratio.estimate / count, ratio.low / count, ratio.high / count, ratio.level)


def _bounded(name: str, ratio: Interval | float) -> Figures:
    if isinstance(ratio, float):
        return {name: ratio, f"{name}_low": None, f"{name}_high": None}
    return {name: ratio.estimate, f"{name}_low": ratio.low, f"{name}_high": ratio.high}


def _samples(whole: dict[Setting, list[Run]], interrupted: dict[str, list[Run]]) -> dict[str, list[float]]:
    """Return the seconds of each run."""
    named = {f"{shards} shards of {threads} threads": runs for (shards, threads), runs in whole.items()}
    return {
        f"{name}: {clock}": [getattr(run, clock) for run in runs]
        for name, runs in {**named, **interrupted}.items()
        for clock in ("cpu_s", "wall_s")
    }


def _write_table(path: Path, command: str, figures: Figures, config: ShardScalingConfig, most: int) -> None:
    machine = environment()
    lines = [
        "# Shards",
        "",
        f"{machine.processor}, {machine.cores} cores, {datetime.date.today().isoformat()}, commit "
        f"{(machine.commit or 'unknown')[:7]}, load {machine.load_average[0]:.1f}, `{command}`. {config.rounds} rounds "
        "of all settings in turns; CPU time is that of all processes of a command, killed or not. [95 % interval]",
        "",
        "| figure | value |",
        "| --- | ---: |",
    ]
    names = [name for name in figures if not name.endswith(("_low", "_high"))]
    lines += [f"| {_TITLES.get(name, name.replace('_', ' '))} | {_shown(figures, name)} |" for name in names]
    lines += ["", f"One process of {most} threads is the baseline of data parallelism."]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


_TITLES = {
    "data_parallel_ratio": "processes of one thread, over one process of as many threads",
    "killed_shard_cpu_ratio": "CPU time with a killed shard, over that of a whole run",
    "killed_shard_cpu_s": "CPU seconds that a killed shard costs",
    "stopped_run_cpu_ratio": "CPU time of a stopped and resumed run, over that of a whole run",
    "stopped_run_cpu_s": "CPU seconds that stopping and resuming costs",
    "spot_gain_ratio": "what is left of the claimed lower price of spot instances, one interruption per run",
}


def _shown(figures: Figures, name: str) -> str:
    value, low, high = (figures.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if not isinstance(value, float):
        return "n/a"
    pattern = "{:,.0f}" if value >= 1000 else "{:.3g}"
    bounds = f" [{low:.3g}, {high:.3g}]" if isinstance(low, float) and isinstance(high, float) else ""
    return pattern.format(value) + bounds
