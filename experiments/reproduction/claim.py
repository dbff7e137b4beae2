"""What a record claims, and the cells that measure it again; `published_claim.py` reads rows of a matrix."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.launchers.registry import LOCAL
from runtime_matrix.experiments.records.comparison import Launch, Result
from runtime_matrix.experiments.records.store import read_results
from runtime_matrix.experiments.reproduction.setting import differences_of_record

_NEEDED = ("runtime", "reference", "model", "hw", "benchmark")
_OURS = (*_NEEDED, "seed", "batch")  # taken as recorded
_COMPLETED = ("agreement", "calibration", "scoring", "generation", "sandbox", "comparison")  # options may be new


@dataclass(frozen=True)
class Claim:
    """A record to reproduce. `result`: with its items, of a record's folder; `figures`: of a published row."""

    title: str
    cell: Cell
    reference: Cell
    launches: list[Launch]
    no_launches: str  # why there are none
    is_own_reference: bool  # it has no speedup
    differences: list[str]  # of the machine, the versions and the code, from those of the record
    is_same_machine: bool
    result: Result | None = None
    figures: dict[str, float | None] | None = None


@dataclass(frozen=True)
class Places:
    """Where the new records and artifacts go, and which benchmarks run; None: those of the record."""

    results: Path
    benchmarks: Sequence[str] | None

    def applied(self, config: JsonObject) -> JsonObject:
        """Return a configuration that measures in these places, and reuses no earlier answers."""
        chosen = config["benchmark"]
        if self.benchmarks is not None:
            missing = [name for name in self.benchmarks if chosen.get(name) is None]
            if missing:
                known = ", ".join(name for name, options in chosen.items() if options is not None)
                raise UserError(f"--benchmarks {missing[0]} is not in the record: it has {known}")
            chosen = {name: options for name, options in chosen.items() if name in self.benchmarks}
        artifacts = str(self.results / "artifacts")
        here = {"results_dir": str(self.results), "artifacts_dir": artifacts, "resume": False, "progress": True}
        return {**config, **here, "benchmark": chosen, "responses": {"mode": "never"}, "launcher": {"name": LOCAL}}


def claim_of_folder(folder: Path, places: Places, command: str) -> Claim:
    """Return the claim of a record's folder. UserError if it is damaged, or has nothing to reproduce."""
    result = _result(folder)
    record = result.record
    if record.status != "ok":
        raise UserError(f"{folder}: its status is {record.status} ({record.reason}): there is nothing to reproduce")
    cell = plan(places.applied(_completed(record.config, folder)), command)
    if cell.facts.digest != record.model.digest:
        raise UserError(f"{folder}: the files of its model have changed (digest {record.model.digest})")
    reference_config = {**record.config, "runtime": record.config["reference"]}
    if result.speed is not None:
        reference_folder = folder.parent / result.speed.against
        if (reference_folder / "record.json").is_file():
            reference_config = _result(reference_folder).record.config
    against = result.speed.against if result.speed is not None else record.record_id
    is_own_reference = record.is_reference and against == record.record_id
    differences, is_same_machine = differences_of_record(record, cell)
    return Claim(
        title=f"{record.runtime.name}, {record.record_id}",
        cell=cell,
        reference=plan(places.applied(_completed(reference_config, folder)), command),
        launches=result.speed.launches if result.speed is not None and not is_own_reference else [],
        no_launches=result.speed_problem or "not interleaved",
        is_own_reference=is_own_reference,
        differences=differences,
        is_same_machine=is_same_machine,
        result=result,
    )


def _result(folder: Path) -> Result:
    results, refused = read_results(folder, [folder])
    if refused:
        raise UserError(f"{refused[0][0]} is {refused[0][1]}")
    return results[0]


def _completed(config: JsonObject, folder: Path) -> JsonObject:
    """Return a recorded configuration with today's defaults for options that it lacks. UserError if it lacks a part."""
    defaults = compose([])
    missing = [key for key in _NEEDED if not isinstance(config.get(key), dict)]
    if missing:
        raise UserError(f"{folder}/record.json is damaged: its configuration has no {missing[0]}")
    kept = {key: config[key] for key in _OURS if key in config}
    completed = {key: {**defaults[key], **(config.get(key) or {})} for key in _COMPLETED}
    return {**defaults, **completed, **kept}


def read_json(file: Path) -> object:
    """Return the content of a JSON file. UserError if it cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
