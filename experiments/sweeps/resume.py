"""What earlier runs left: cells without a record get one, and finished cells are not measured again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.records.environment import environment_hash
from runtime_matrix.experiments.records.schema import (
    FAILED,
    Environment,
    Record,
)
from runtime_matrix.experiments.records.store import read_results, write_record
from runtime_matrix.experiments.records.unfinished import unfinished
from runtime_matrix.experiments.sweeps.one_cell import remove_temporary_files


def settle(results: Path) -> None:
    """Record what earlier runs left unrecorded because they were killed."""
    for folder, record in unfinished(results):
        write_record(folder, record)
        remove_temporary_files(folder)


def recorded_cells(results: Path, tries: int) -> list[Record]:
    """Return what is recorded as ok, as unsupported, or as failed for the last of so many tries; the newest first.

    What the machine lacked before anything was loaded is tried again: it takes a second, and may have been installed.
    """
    records = [result.record for result in read_results(results)[0]]
    failures = Counter(_same(record) for record in records if record.status in FAILED)

    def is_settled(record: Record) -> bool:
        if record.status in FAILED:
            return failures[_same(record)] >= tries
        is_of_check = record.status == "unsupported" and not record.jobs.keys() - {"check"}
        return record.status in ("ok", "unsupported") and not is_of_check

    settled = [record for record in reversed(records) if is_settled(record)]
    return sorted(settled, key=lambda record: record.status != "ok")  # what was measured once stays measured


def _same(record: Record) -> tuple[str, str, str]:
    """Return what records of the same cell, environment and code have in common."""
    return record.config_hash, record.environment_hash, repr(record.code)


def take(recorded: list[Record], cell: Cell, here: Environment) -> Record | None:
    """Return the newest record of the same cell, environment and code, and take it from the list.

    One record stands for one cell: a runtime against itself needs two.
    """
    if not recorded:
        return None
    wanted = (cell.config_hash, environment_hash(here), cell.code)
    for index, record in enumerate(recorded):
        if (record.config_hash, record.environment_hash, record.code) == wanted:
            return recorded.pop(index)
    return None
