"""What `explain` measures: the profiles of recorded cells, and the missing cells of a ladder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.analysis.ladder import Rung, rungs
from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.execution.progress import Progress
from runtime_matrix.experiments.execution.supervisor import Children
from runtime_matrix.experiments.launchers.registry import LOCAL
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.profile import PROFILE_FILE
from runtime_matrix.experiments.tasks.registry import scores

_DIVERGENCE, _SCORED = "divergence", "multiple_choice"  # what a ladder compares


def take_profiles(results: Sequence[Result]) -> dict[str, str]:
    """Profile the cells of these records again and store each profile beside its record.

    Return the reason of each failure by record id. UserError if a record's configuration is not one of this version.
    """
    cells = [cell_of(result) for result in results]
    if not cells:
        return {}
    children = Children(
        cells[0].config.launch, {str(cell.facts.model_type) for cell in cells}, max(cell.threads for cell in cells)
    )
    failures: dict[str, str] = {}
    with Progress(len(cells), cells[0].config.progress) as progress:
        for cell, result in zip(cells, results, strict=True):
            progress.start(f"profile of {cell.label}")
            # Within the results, so that the finished file can be moved beside the record at once.
            with tempfile.TemporaryDirectory(dir=result.folder, prefix=".profile-") as scratch:
                outcome = children.run("profile", cell, Path(scratch), cell.config.time_limit_s, progress.on_message)
                if outcome.status == "ok":
                    os.replace(Path(scratch) / PROFILE_FILE, result.folder / PROFILE_FILE)
                else:
                    failures[result.record.record_id] = f"{outcome.status}: {outcome.reason}"
            progress.finish(outcome.status, outcome.reason)
    return failures


def cell_of(result: Result, runtime: JsonObject | None = None, command: str = "") -> Cell:
    """Return the cell of a record, or the same cell with another runtime. UserError if it cannot be planned here."""
    record = result.record
    resolved = {**record.config, "results_dir": str(result.folder.parent), "launcher": {"name": LOCAL}}
    if not {"runtime", "reference", "model", "benchmark"} <= record.config.keys():
        raise UserError(f"{record.record_id} does not hold its configuration: measure the cell again")
    if runtime is not None:
        resolved |= {"runtime": runtime, "benchmark": _benchmarks(record.config["benchmark"]), "resume": True}
    return plan(resolved, command or record.command)


def ladder_cells(result: Result, command: str) -> list[Cell]:
    """Return the reference and each step from it to the cell of a record, as a sweep that reuses what is recorded."""
    base = result.record.config.get("reference") or {}
    steps: list[Rung] = rungs(result.record.config.get("runtime") or {}, base) if base else []
    if not steps:
        raise UserError(f"{result.record.record_id} runs as its reference does: there is no ladder between them")
    return [cell_of(result, runtime, command) for runtime in (base, *(step.runtime for step in steps))]


def _benchmarks(chosen: JsonObject) -> JsonObject:
    """Return the benchmarks of a ladder: the cell's own if they have a divergence and a score, else with these."""
    wanted = [] if chosen.get(_DIVERGENCE) else [_DIVERGENCE]
    if not any(chosen.get(name) for name, score in scores().items() if score.is_discrete):
        wanted.append(_SCORED)
    return {**chosen, **(compose([f"benchmark=[{','.join(wanted)}]"])["benchmark"] if wanted else {})}
