"""Baselines: what a run left for later gates to be judged against, one small JSON file a cell, made to be reviewed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from runtime_matrix.experiments.cells.plan import Cell
from runtime_matrix.experiments.comparison.answers import Scored, read_items, scored
from runtime_matrix.experiments.errors import UserError, did_you_mean
from runtime_matrix.experiments.gates.limits import ACCURACY, COUNTS, LOAD, MEMORY
from runtime_matrix.experiments.plain_json import JsonObject
from runtime_matrix.experiments.records.environment import machine_differences, machine_facts
from runtime_matrix.experiments.records.matrix import rows
from runtime_matrix.experiments.records.schema import Environment, Record, Result, to_plain, typed
from runtime_matrix.experiments.records.speed import PHASES, Clock, log_ratios
from runtime_matrix.experiments.records.store import write_atomic

SCHEMA_VERSION = 2  # 1 kept the CPU time of other rounds
_DIGITS = 6  # of an item's score: a file that people read


class BaselineSpeed(Struct, frozen=True, kw_only=True):
    """The launches of a cell beside its reference."""

    against: str | None = None  # the runtime of the reference
    options: JsonObject | None = None  # `ComparisonConfig`, as it was
    log_ratios: dict[str, dict[str, list[float]]] = {}  # by clock and phase: one for each launch


class BaselineScores(Struct, frozen=True, kw_only=True):
    """What a benchmark's items were worth, by item: a line each, so that a diff shows which have changed."""

    scores: dict[str, float]
    probabilities: dict[str, float] | None = None  # of the right choice


class Baseline(Struct, frozen=True, kw_only=True):
    """What later runs of a cell are judged against."""

    schema_version: int
    cell: str
    commit: str | None = None
    machine: JsonObject  # see `machine_facts`, and the versions of packages
    model_digest: str
    runtime: JsonObject = {}  # as it was configured
    asked: JsonObject  # the options of benchmarks, see `asked`
    versions: dict[str, int] = {}  # of benchmarks; the first baselines did not name them
    memory: dict[str, float | None] = {}
    peaks: list[float | None] = []  # bytes of the host's memory, one for each launch
    load: dict[str, float | None] = {}
    counts: dict[str, int | None] = {}
    speed: BaselineSpeed
    accuracy: dict[str, BaselineScores]


def make_baseline(cell: Cell, result: Result, against: str | None) -> Baseline:
    """Return the baseline of a cell; `against` names the runtime of its speed ratios."""
    (row,) = rows([result])
    record, speed = result.record, result.speed
    launches = speed.launches if speed else []
    return Baseline(
        schema_version=SCHEMA_VERSION,
        cell=cell.label,
        commit=record.environment.commit,
        machine={**machine_facts(record.environment), "versions": record.environment.versions},
        model_digest=record.model.digest,
        runtime=cell.resolved["runtime"],
        asked=asked(cell),
        versions=cell.config.benchmark.versions(),
        memory={name: row[name] for name in MEMORY},
        peaks=[launch.candidate_memory.peak_host_bytes for launch in launches],
        load={name: row[name] for name in LOAD},
        counts=counts(record),
        speed=BaselineSpeed(
            against=against,
            options=speed.options if speed else None,
            log_ratios={
                clock.value: {phase: _short(log_ratios(launches, phase, clock)) for phase in PHASES}
                for clock in (Clock.WALL, Clock.CPU)
            },
        ),
        accuracy={name: _items(found) for name, found in accuracy(result).items()},
    )


def write_baseline(baseline: Baseline, folder: Path) -> Path:
    """Write a cell's file and return its path; UserError where the folder cannot be written."""
    path = folder / f"{baseline.cell}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(to_plain(baseline), indent=1) + "\n")
    except OSError as error:
        raise UserError(f"baseline={folder} cannot be written: {error.strerror}") from error
    return path


def difference(folder: Path, made: Baseline) -> list[str]:
    """Return how a new baseline's figures differ from those that the folder holds of the cell; empty if they do not."""
    path = folder / f"{made.cell}.json"
    if not path.exists():
        return ["new"]
    try:
        old = read_baselines(folder)[made.cell]
    except UserError as error:
        return [f"replaced what could not be read ({error})"]
    changes = []
    for before, now in ((old.memory, made.memory), (old.load, made.load), (old.counts, made.counts)):
        for name, value in now.items():
            if before.get(name) != value:
                changes.append(f"{name} {before.get(name)} → {value}")
    for name, kept in made.accuracy.items():
        scores = old.accuracy[name].scores if name in old.accuracy else {}
        changed = sum(scores.get(key) != score for key, score in kept.scores.items())
        if changed:
            changes.append(f"{name}: {changed} of {len(kept.scores)} items differ")
    return changes


def read_baselines(folder: Path) -> dict[str, Baseline]:
    """Return the baselines of a folder by cell. UserError for one that cannot be read, and where there is none."""
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not paths:
        raise UserError(f"baseline={folder} holds no baseline; make one: python -m experiments.gate update=true …")
    baselines = [_read(path) for path in paths]
    return {baseline.cell: baseline for baseline in baselines}


def _read(path: Path) -> Baseline:
    damaged = f"{path} is damaged ({{}}); make it again with update=true"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(damaged.format(error)) from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(f"{path} has schema {version}, this program reads {SCHEMA_VERSION}; update=true makes it new")
    try:
        return typed(content, Baseline)
    except ValueError as error:
        raise UserError(damaged.format(error)) from error


def check_baseline(baseline: Baseline, cell: Cell, environment: Environment, limited: Sequence[str]) -> None:
    """Raise UserError unless what the cell will measure can be judged by the baseline. `limited` are benchmarks."""
    what = f"the baseline of {cell.label}"
    differences = machine_differences(baseline.machine, environment)
    if differences:
        raise UserError(
            f"{what} is of another machine ({'; '.join(differences)}): keep one per machine, update=true makes it"
        )
    if baseline.model_digest != cell.facts.digest:
        raise UserError(f"{what} is of another model (other files): update=true if the change is meant")
    for name in limited:
        if name not in baseline.accuracy:
            known = did_you_mean(name, baseline.accuracy)
            raise UserError(f"{what} holds no benchmark {name}{known}; update=true measures it")
        kept, now = baseline.versions.get(name, 1), cell.config.benchmark.versions().get(name, 1)
        if kept != now:
            raise UserError(
                f"{what} is of version {kept} of benchmark {name}, this is {now}: update=true makes it anew"
            )
        if baseline.asked.get(name) != asked(cell).get(name):
            raise UserError(f"{what} asked benchmark.{name} otherwise: update=true, or set its options back")


def baseline_scores(baseline: Baseline, name: str, mine: Scored) -> Scored:
    """Return the scores that the baseline keeps of these items; UserError when they are other items."""
    kept = baseline.accuracy[name]
    if list(kept.scores) != mine.ids:
        raise UserError(
            f"the baseline of {baseline.cell} has other items of {name} ({len(kept.scores)}, now "
            f"{len(mine.ids)}): update=true if the change is meant"
        )
    chances = list(kept.probabilities.values()) if kept.probabilities is not None else None
    return Scored(mine.ids, mine.clusters, list(kept.scores.values()), chances)


def asked(cell: Cell) -> JsonObject:
    """Return the options of the benchmarks that are chosen, without what does not change a score."""
    options = cell.resolved["benchmark"]
    return {name: options[name] for name in ACCURACY if options.get(name) is not None}


def accuracy(result: Result) -> dict[str, Scored]:
    """Return the scores of the items that a record's benchmarks left in its folder."""
    files = {entry.benchmark: entry.items_file for entry in result.record.benchmarks if entry.status == "ok"}
    return {
        name: scored(name, read_items(result.folder / file, name)) for name in ACCURACY if (file := files.get(name))
    }


def counts(record: Record) -> dict[str, int | None]:
    """Return the exact counts of a cell; None for one that its runtime does not keep."""
    last = record.benchmarks[-1].counters if record.benchmarks else {}
    tokens = [count for entry in record.benchmarks if (count := entry.figure("new_tokens")) is not None]
    return {**{name: last.get(name) for name in COUNTS}, "tokens": int(sum(tokens)) if tokens else None}


def _items(found: Scored) -> BaselineScores:
    chances = found.probabilities
    return BaselineScores(
        scores=dict(zip(found.ids, _short(found.scores), strict=True)),
        probabilities=dict(zip(found.ids, _short(chances), strict=True)) if chances is not None else None,
    )


def _short(values: Sequence[float]) -> list[float]:
    return [round(value, _DIGITS) for value in values]
