"""Baselines: figures of a run that later gates are judged against, as one small, reviewable JSON file per cell."""

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

SCHEMA_VERSION = 2  # version 1 had the CPU time of other rounds
_DIGITS = 6  # of an item's score, to keep the file readable


class Baseline(Struct, frozen=True, kw_only=True):
    """The common fields of a cell's baseline; see `baseline_type` for those of axes."""

    schema_version: int
    cell: str
    commit: str | None = None
    machine: JsonObject  # see `machine_facts`, and the versions of packages
    model_digest: str
    runtime: JsonObject = {}  # its configuration
    asked: JsonObject  # the options of benchmarks, see `asked`
    versions: dict[str, int] = {}  # of benchmarks; absent in the first baselines


def baseline_type() -> type[Baseline]:
    """Return the type of baseline files: the common fields and the parts of all axes."""
    return _type_of(tuple(kept_parts()))


@cache
def _type_of(parts: tuple[Kept[Any], ...]) -> type[Baseline]:
    fields = [
        (kept.key, kept.kind) if kept.absent is None else (kept.key, kept.kind, field(default_factory=kept.absent))
        for kept in parts
    ]
    struct_type = defstruct("Baseline", fields, bases=(Baseline,), frozen=True, kw_only=True)
    assert issubclass(struct_type, Baseline)
    return struct_type


def make_baseline(cell: Cell, result: Result, against: str | None) -> Baseline:
    """Return the baseline of a cell. `against`: the runtime that its speed ratios refer to."""
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
    """Write a cell's file and return its path. UserError if the folder cannot be written."""
    path = folder / f"{baseline.cell}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(to_plain(baseline), indent=1) + "\n")
    except OSError as error:
        raise UserError(f"baseline={folder} cannot be written: {error.strerror}") from error
    return path


def difference(folder: Path, baseline: Baseline) -> list[str]:
    """Return the figures in which a new baseline differs from the cell's file in the folder; empty if none does."""
    path = folder / f"{baseline.cell}.json"
    if not path.exists():
        return ["new"]
    try:
        old = read_baselines(folder)[baseline.cell]
    except UserError as error:
        return [f"replaces an unreadable file ({error})"]
    return [change for kept in kept_parts() for change in kept.changes(kept.of(old), kept.of(baseline))]


def figure_changes(before: Mapping[str, float | None], now: Mapping[str, float | None]) -> list[str]:
    """Return `NAME BEFORE → NOW` for each figure that differs."""
    return [f"{name} {before.get(name)} → {value}" for name, value in now.items() if before.get(name) != value]


def read_baselines(folder: Path) -> dict[str, Baseline]:
    """Return the baselines of a folder by cell. UserError if a file cannot be read or there is none."""
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
        raise UserError(
            f"{path} has schema {version}, this program reads {SCHEMA_VERSION}; update=true makes a new one"
        )
    try:
        return typed(content, baseline_type())
    except ValueError as error:
        raise UserError(damaged.format(error)) from error


def check_baseline(baseline: Baseline, cell: Cell, environment: Environment, gate: GateConfig) -> None:
    """Raise UserError unless the baseline is comparable with the planned measurement: machine, model, items."""
    title = f"the baseline of {cell.label}"
    differences = machine_differences(baseline.machine, environment)
    if differences:
        raise UserError(
            f"{title} is of another machine ({'; '.join(differences)}): keep one per machine, update=true makes it"
        )
    if baseline.model_digest != cell.facts.digest:
        raise UserError(f"{title} is of another model (other files): update=true if the change is meant")
    for limits, value in gate.chosen(has_baseline=True):
        if limits.part == "baseline":
            limits.check_baseline(value, baseline, cell)


def asked(cell: Cell) -> JsonObject:
    """Return the options of the chosen accuracy benchmarks, for the baseline's field of that name."""
    options, limit = cell.resolved["benchmark"], cell.config.model.max_tokens
    length = {} if limit is None else {"model.max_tokens": limit}
    return {name: {**options[name], **length} for name in gate_limits.ACCURACY if options.get(name) is not None}


def shortened(values: Sequence[float]) -> list[float]:
    """Round values to `_DIGITS` digits."""
    return [round(value, _DIGITS) for value in values]
