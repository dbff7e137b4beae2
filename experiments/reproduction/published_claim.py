"""The claim of a row of a published matrix, with the launches that are published beside it."""

from __future__ import annotations

import gzip
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.cells.overrides import expand
from runtime_matrix.experiments.config.arguments import read_arguments
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.measurement.machine import MachineChange
from runtime_matrix.experiments.records.comparison import Block, Launch, PeakMemory
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import typed
from runtime_matrix.experiments.reproduction.claim import Claim, Places
from runtime_matrix.experiments.reproduction.setting import differences_of_row

_MOST_BYTES = 500_000_000  # of unpacked launches
_LAUNCHES = "-launches.json.gz"  # beside MATRIX.json: MATRIX-launches.json.gz
_PLACES = ("results_dir=", "artifacts_dir=", "resume=", "hydra.")


def claim_of_row(file: Path, rows: Sequence[Row], name: str | None, places: Places, command: str) -> Claim:
    """Return the claim of the row that `name` names. UserError if there is none, or nothing to reproduce in it."""
    row = _chosen(rows, name)
    if row.status != "ok":
        raise UserError(f"{row.runtime}: its status is {row.status} ({row.reason}): there is nothing to reproduce")
    references = [other for other in rows if other.is_reference and other.run_id == row.run_id]
    cell = _planned(row, places, command)
    reference = _planned(references[0], places, command) if references else _reference_of(cell, command)
    differences, is_same_machine = differences_of_row(row, cell)
    launches, reason = ([], "") if row.is_reference else _launches(file, row)
    return Claim(
        title=f"{row.runtime}, {row.record_id}",
        cell=cell,
        reference=reference,
        launches=launches,
        no_launches=reason,
        is_own_reference=row.is_reference,
        differences=differences,
        is_same_machine=is_same_machine,
        figures=dict(row.figures),
    )


def _chosen(rows: Sequence[Row], name: str | None) -> Row:
    names = [row.runtime for row in rows]
    if name is None:
        raise UserError(f"a matrix has several cells: choose one with --cell {' or '.join(dict.fromkeys(names))}")
    found = [row for row in rows if name in (row.runtime, row.record_id)]
    if not found:
        raise UserError(f"--cell {name} is not in the matrix{did_you_mean(name, names)}")
    if len(found) > 1:
        raise UserError(f"--cell {name} names {len(found)} rows: give a record_id, such as {found[0].record_id}")
    return found[0]


def _planned(row: Row, places: Places, command: str) -> Cell:
    """Return the cell of a row, from the command that measured it."""
    words = _words(row)
    jobs = [compose(job) for job in expand(words)]
    cells = [plan(places.applied(job), command) for job in jobs]
    cell = next((cell for cell in cells if cell.config.runtime.title == row.runtime), None)
    if cell is None:
        raise UserError(f"the command of {row.runtime} measures no such runtime: {row.command}")
    if row.model_digest and cell.facts.digest != row.model_digest:
        raise UserError(f"{row.runtime}: the files of its model have changed (digest {row.model_digest})")
    return cell


def _words(row: Row) -> list[str]:
    try:
        words = shlex.split(row.command)
    except ValueError as error:
        raise UserError(f"the command of {row.runtime} cannot be read: {error}") from error
    start = next((at for at, word in enumerate(words) if word == "run" or word.endswith(".run")), None)
    if start is None:
        raise UserError(f"the command of {row.runtime} does not measure a cell: {row.command or 'none'}")
    arguments = read_arguments(words[start + 1 :])
    return [word for word in arguments.overrides if not word.startswith(_PLACES)]


def _reference_of(cell: Cell, command: str) -> Cell:
    return plan({**cell.resolved, "runtime": cell.resolved["reference"]}, command)


def _launches(file: Path, row: Row) -> tuple[list[Launch], str]:
    """Return the published launches of a row, and the reason if there are none. UserError for a damaged file."""
    path = file.with_name(file.stem + _LAUNCHES)
    if not path.is_file():
        return [], f"{path} is missing, which has its launches: docs/recompute.py --keep writes it"
    try:
        with gzip.open(path) as unpacked:
            content = unpacked.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError(f"larger than {_MOST_BYTES:,} bytes")
        by_record = json.loads(content)
        blocks = typed(by_record.get(row.record_id, []) if isinstance(by_record, dict) else None, list[Block])
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    return [_launch(block, row.threads) for block in blocks], f"{path} has no launches of it"


def _launch(block: Block, threads: int) -> Launch:
    unknown = PeakMemory()
    return Launch(
        own=block,
        long=None,
        batched=None,
        one_thread=None,
        candidate_memory=unknown,
        reference_memory=unknown,
        threads=threads,
        device="cpu",
        machine=MachineChange(),
    )
