"""Use the results of earlier runs: write missing records, and find cells that need not be measured again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
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


def settle(results: Path, running: Collection[str] = ()) -> None:
    """Write the missing records of runs that were killed, and remove their temporary files.

    `running` are the ids of records that other machines are still measuring.
    """
    for folder, record in unfinished(results):
        if record.record_id not in running:
            write_record(folder, record)
            remove_temporary_files(folder)


def recorded_cells(results: Path, tries: int) -> list[Record]:
    """Return the records that need no new measurement: ok, unsupported, or failed `tries` times; ok and newest first.

    A cell that failed its first check is measured again: the check takes a second, and the missing package may be
    installed now.
    """
    records = [result.record for result in read_results(results)[0]]
    failures = Counter(_same(record) for record in records if record.status in FAILED)

    def is_settled(record: Record) -> bool:
        if record.status in FAILED:
            return failures[_same(record)] >= tries
        failed_check = record.status == "unsupported" and not record.jobs.keys() - {"check"}
        return record.status in ("ok", "unsupported") and not failed_check

    settled = [record for record in reversed(records) if is_settled(record)]
    return sorted(settled, key=lambda record: record.status != "ok")  # a failure after a success does not discard it


def _same(record: Record) -> tuple[str, str, str]:
    """Return a key that is equal for records of the same cell, environment and code."""
    return record.config_hash, record.environment_hash, repr(record.code)


def take(recorded: list[Record], cell: Cell, current: Environment, *, of_any_machine: bool = False) -> Record | None:
    """Remove the newest record of the same cell, environment and code from the list and return it; None without one.

    A record is used for one cell only, because a runtime against itself needs two. `of_any_machine`: nodes of a cluster
    may differ from this machine, so only the versions of packages must agree.
    """
    if not recorded:
        return None
    config_hash, code, here = cell.config_hash, cell.code, environment_hash(current)
    for index, record in enumerate(recorded):
        if record.config_hash != config_hash or record.code != code:
            continue
        if record.environment_hash == here or (of_any_machine and record.environment.versions == current.versions):
            return recorded.pop(index)
    return None
