"""Baselines: what a run left for later gates to be judged against, one small JSON file a cell, made to be reviewed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.cells.plan import Cell
from runtime_matrix.experiments.comparison.answers import Scored, read_items, scored
from runtime_matrix.experiments.errors import UserError, did_you_mean
from runtime_matrix.experiments.gates.limits import ACCURACY, COUNTS, LOAD, MEMORY
from runtime_matrix.experiments.records.environment import machine_differences, machine_facts
from runtime_matrix.experiments.records.matrix import rows
from runtime_matrix.experiments.records.speed import PHASES, Clock, log_ratios
from runtime_matrix.experiments.records.store import write_atomic

SCHEMA_VERSION = 2  # 1 kept the CPU time of other rounds
_DIGITS = 6  # of an item's score: a file that people read

Baseline = dict[str, Any]


def make_baseline(cell: Cell, record: Mapping[str, Any], folder: Path, against: str | None) -> Baseline:
    """Return the baseline of a cell; `folder` holds its record, `against` names the runtime of its speed ratios."""
    (row,) = rows([dict(record)])
    launches = (record.get("speed") or {}).get("launches", [])
    return {
        "schema_version": SCHEMA_VERSION,
        "cell": cell.label,
        "commit": record["environment"]["commit"],
        "machine": _machine(record),
        "model_digest": record["model"]["digest"],
        "runtime": cell.resolved["runtime"],
        "asked": asked(cell),
        "versions": cell.config.benchmark.versions(),
        "memory": {name: row[name] for name in MEMORY},
        "peaks": [launch["candidate_memory"]["peak_host_bytes"] for launch in launches],
        "load": {name: row[name] for name in LOAD},
        "counts": counts(record),
        "speed": {
            "against": against,
            "options": (record.get("speed") or {}).get("options"),
            "log_ratios": {
                clock.value: {phase: _short(log_ratios(launches, phase, clock)) for phase in PHASES}
                for clock in (Clock.WALL, Clock.CPU)
            },
        },
        "accuracy": {name: _items(found) for name, found in accuracy(record, folder).items()},
    }


def write_baseline(baseline: Baseline, folder: Path) -> Path:
    """Write a cell's file and return its path; UserError where the folder cannot be written."""
    path = folder / f"{baseline['cell']}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(baseline, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"baseline={folder} cannot be written: {error.strerror}") from error
    return path


def difference(folder: Path, made: Baseline) -> list[str]:
    """Return how a new baseline's figures differ from those that the folder holds of the cell; empty if they do not."""
    path = folder / f"{made['cell']}.json"
    if not path.exists():
        return ["new"]
    try:
        old = read_baselines(folder)[made["cell"]]
    except UserError as error:
        return [f"replaced what could not be read ({error})"]
    changes = []
    for group in ("memory", "load", "counts"):
        for name, value in made[group].items():
            if old[group].get(name) != value:
                changes.append(f"{name} {old[group].get(name)} → {value}")
    for name, kept in made["accuracy"].items():
        before = old["accuracy"].get(name, {}).get("scores", {})
        changed = sum(before.get(key) != score for key, score in kept["scores"].items())
        if changed:
            changes.append(f"{name}: {changed} of {len(kept['scores'])} items differ")
    return changes


def read_baselines(folder: Path) -> dict[str, Baseline]:
    """Return the baselines of a folder by cell. UserError for one that cannot be read, and where there is none."""
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not paths:
        raise UserError(f"baseline={folder} holds no baseline; make one: python -m experiments.gate update=true …")
    found = {}
    for path in paths:
        try:
            baseline = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is damaged ({error}); make it again with update=true") from error
        version = baseline.get("schema_version") if isinstance(baseline, dict) else None
        if version != SCHEMA_VERSION:
            raise UserError(
                f"{path} has schema {version}, this program reads {SCHEMA_VERSION}; update=true makes it new"
            )
        found[str(baseline["cell"])] = baseline
    return found


def check_baseline(baseline: Baseline, cell: Cell, environment: Mapping[str, Any], limited: Sequence[str]) -> None:
    """Raise UserError unless what the cell will measure can be judged by the baseline. `limited` are benchmarks."""
    what = f"the baseline of {cell.label}"
    differences = machine_differences(baseline["machine"], environment)
    if differences:
        raise UserError(
            f"{what} is of another machine ({'; '.join(differences)}): keep one per machine, update=true makes it"
        )
    if baseline["model_digest"] != cell.facts.digest:
        raise UserError(f"{what} is of another model (other files): update=true if the change is meant")
    for name in limited:
        if name not in baseline["accuracy"]:
            known = did_you_mean(name, baseline["accuracy"])
            raise UserError(f"{what} holds no benchmark {name}{known}; update=true measures it")
        kept, now = baseline.get("versions", {}).get(name, 1), cell.config.benchmark.versions().get(name, 1)
        if kept != now:
            raise UserError(
                f"{what} is of version {kept} of benchmark {name}, this is {now}: update=true makes it anew"
            )
        if baseline["asked"].get(name) != asked(cell).get(name):
            raise UserError(f"{what} asked benchmark.{name} otherwise: update=true, or set its options back")


def baseline_scores(baseline: Baseline, name: str, mine: Scored) -> Scored:
    """Return the scores that the baseline keeps of these items; UserError when they are other items."""
    kept = baseline["accuracy"][name]
    if list(kept["scores"]) != mine.ids:
        raise UserError(
            f"the baseline of {baseline['cell']} has other items of {name} ({len(kept['scores'])}, now "
            f"{len(mine.ids)}): update=true if the change is meant"
        )
    chances = kept["probabilities"]
    return Scored(mine.ids, mine.clusters, list(kept["scores"].values()), chances and list(chances.values()))


def asked(cell: Cell) -> dict[str, Any]:
    """Return the options of the benchmarks that are chosen, without what does not change a score."""
    found: dict[str, Any] = cell.resolved["benchmark"]
    return {name: found[name] for name in ACCURACY if found.get(name) is not None}


def accuracy(record: Mapping[str, Any], folder: Path) -> dict[str, Scored]:
    """Return the scores of the items that a record's benchmarks left in its folder."""
    entries = {entry["benchmark"]: entry for entry in record["benchmarks"] if entry["status"] == "ok"}
    return {
        name: scored(name, read_items(folder / entries[name]["items_file"]))
        for name in ACCURACY
        if name in entries and entries[name]["items_file"]
    }


def counts(record: Mapping[str, Any]) -> dict[str, int | None]:
    """Return the exact counts of a cell; None for one that its runtime does not keep."""
    last = record["benchmarks"][-1]["counters"] if record["benchmarks"] else {}
    tokens = [e["figures"]["new_tokens"] for e in record["benchmarks"] if "new_tokens" in (e["figures"] or {})]
    return {**{name: last.get(name) for name in COUNTS}, "tokens": sum(tokens) if tokens else None}


def _machine(record: Mapping[str, Any]) -> dict[str, Any]:
    environment = record["environment"]
    return {**machine_facts(environment), "versions": environment["versions"]}


def _items(found: Scored) -> dict[str, Any]:
    """Return an item a line, so that a diff shows which have changed."""
    chances = found.probabilities
    return {
        "scores": dict(zip(found.ids, _short(found.scores), strict=True)),
        "probabilities": dict(zip(found.ids, _short(chances), strict=True)) if chances is not None else None,
    }


def _short(values: Sequence[float]) -> list[float]:
    return [round(value, _DIGITS) for value in values]
