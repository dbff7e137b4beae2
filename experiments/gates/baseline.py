"""Baselines: what a run left for later gates to be judged against, one small JSON file a cell, made to be reviewed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct, defstruct, field

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.gates import limits as gate_limits
from runtime_matrix.experiments.gates.axis import Kept
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.gates.registry import kept_parts
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.environment import machine_differences, machine_facts
from runtime_matrix.experiments.records.schema import Environment, to_plain, typed
from runtime_matrix.experiments.records.store import write_atomic

SCHEMA_VERSION = 2  # 1 kept the CPU time of other rounds
_DIGITS = 6  # of an item's score: a file that people read


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


def baseline_type() -> type[Baseline]:
    """Return the type of whole baselines: with what each axis keeps."""
    return _type_of(tuple(kept_parts()))


@cache
def _type_of(parts: tuple[Kept[Any], ...]) -> type[Baseline]:
    fields = [
        (kept.key, kept.kind) if kept.absent is None else (kept.key, kept.kind, field(default_factory=kept.absent))
        for kept in parts
    ]
    made = defstruct("Baseline", fields, bases=(Baseline,), frozen=True, kw_only=True)
    assert issubclass(made, Baseline)
    return made


def make_baseline(cell: Cell, result: Result, against: str | None) -> Baseline:
    """Return the baseline of a cell; `against` names the runtime of its speed ratios."""
    record = result.record
    new: Callable[..., Baseline] = baseline_type()
    return new(
        schema_version=SCHEMA_VERSION,
        cell=cell.label,
        commit=record.environment.commit,
        machine={**machine_facts(record.environment), "versions": record.environment.versions},
        model_digest=record.model.digest,
        runtime=cell.resolved["runtime"],
        asked=asked(cell),
        versions=cell.config.benchmark.versions(),
        **{kept.key: kept.make(result, against) for kept in kept_parts()},
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
    return [change for kept in kept_parts() for change in kept.changes(kept.of(old), kept.of(made))]


def figure_changes(before: Mapping[str, float | None], now: Mapping[str, float | None]) -> list[str]:
    """Return a few words for each figure that differs."""
    return [f"{name} {before.get(name)} → {value}" for name, value in now.items() if before.get(name) != value]


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
        return typed(content, baseline_type())
    except ValueError as error:
        raise UserError(damaged.format(error)) from error


def check_baseline(baseline: Baseline, cell: Cell, environment: Environment, gate: GateConfig) -> None:
    """Raise UserError unless the gate can judge by the baseline what the cell will measure."""
    what = f"the baseline of {cell.label}"
    differences = machine_differences(baseline.machine, environment)
    if differences:
        raise UserError(
            f"{what} is of another machine ({'; '.join(differences)}): keep one per machine, update=true makes it"
        )
    if baseline.model_digest != cell.facts.digest:
        raise UserError(f"{what} is of another model (other files): update=true if the change is meant")
    for limits, value in gate.chosen(has_baseline=True):
        if limits.part == "baseline":
            limits.check_baseline(value, baseline, cell)


def asked(cell: Cell) -> JsonObject:
    """Return the options of the benchmarks that are chosen, without what does not change a score."""
    options = cell.resolved["benchmark"]
    return {name: options[name] for name in gate_limits.ACCURACY if options.get(name) is not None}


def shortened(values: Sequence[float]) -> list[float]:
    """Return values with as many digits as people read."""
    return [round(value, _DIGITS) for value in values]
