"""`python -m runtime_matrix.experiments.sweeps.unit FOLDER TOKEN`: compute a unit of a sweep on the node of a launcher.

The record is written by this process, with the environment of its node. A signal ends it without a record: who sends
it knows the reason, and the sweep writes the record from the journal.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.execution import guard
from runtime_matrix.experiments.execution.progress import Progress
from runtime_matrix.experiments.execution.supervisor import Children
from runtime_matrix.experiments.launchers.transport import PARENT, THREADS
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.schema import Site
from runtime_matrix.experiments.sweeps import units
from runtime_matrix.experiments.sweeps.after_sweep import compare_launches
from runtime_matrix.experiments.sweeps.one_cell import Ended, HardwarePeaks, identity_of_cell, measure_cell
from runtime_matrix.experiments.sweeps.shards import run_shard
from runtime_matrix.experiments.timing.runner import Runner

_PR_SET_PDEATHSIG = 1
_NOT_VISIBLE, _SIGNALLED = 4, 128 + signal.SIGTERM


def main(argv: Sequence[str]) -> int:
    """Compute the unit of a folder and write its outcome; return 0 if it has one."""
    folder, token = Path(argv[0]), argv[1]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    _end_with_parent()
    order = units.read_order(folder)
    if order is None:
        print(f"{folder} cannot be read on {socket.gethostname()}: is the folder shared?", file=sys.stderr)
        return _NOT_VISIBLE
    if order.token != token or units.read_outcome(folder, token) is not None:
        return 0  # a later command computes the unit, or another try was faster
    try:
        outcome = _compute(order, units.write_started(folder, token))
    except Ended:
        return _SIGNALLED
    except UserError as error:
        outcome = units.UnitOutcome(status="error", reason=f"on {socket.gethostname()}: {error}")
    except Exception as error:
        traceback.print_exc()
        outcome = units.UnitOutcome(status="error", reason=f"{type(error).__name__}: {error}")
    finally:
        guard.end_all()
    if not units.write_outcome(folder, token, outcome) and outcome.record_id is not None:
        shutil.rmtree(Path(order.results) / outcome.record_id)  # a unit has one record
    return 0


def _end(*_: Any) -> None:
    raise Ended


def _end_with_parent() -> None:
    """Have the kernel end this process when its parent ends, if the parent asks for it."""
    parent = os.environ.pop(PARENT, None)
    if parent is not None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):
            raise SystemExit(_SIGNALLED)  # it has just ended


def _compute(order: units.Order, started: units.Started) -> units.UnitOutcome:
    if Path(order.working_folder).is_dir():
        os.chdir(order.working_folder)
    threads = int(os.environ.get(THREADS, len(started.cores)))
    cells = [_planned(planned, Path(order.results), threads) for planned in order.cells]
    with Progress(len(cells), cells[0].config.progress) as progress:
        if order.kind == "comparison":
            return _compare(order, cells, progress)
        children = Children(cells[0].config.launch, {str(cells[0].facts.model_type)}, cells[0].threads)
        with closing(children):
            if order.shard is not None:
                record = run_shard(cells[0], *order.shard, children, progress)
                return units.UnitOutcome(status=record.status, reason=record.reason)
            return _measure(order, started, cells[0], children, progress)


def _planned(planned: units.PlannedCell, results: Path, threads: int) -> Cell:
    """Return the cell as it is here, with as many threads if it does not choose its own.

    UserError if it is another one, because files or sources differ.
    """
    resolved = planned.resolved
    if Path(str(resolved["results_dir"])).resolve() != results:  # this node does not see the sweep's folder
        resolved = {**resolved, "results_dir": str(results), "artifacts_dir": str(results / "artifacts")}
    cell = plan(resolved, planned.command)
    if cell.config_hash != planned.config_hash:
        raise UserError("the model, the data or a preset differs from those where the sweep was started")
    if cell.code.digest != planned.code:
        raise UserError("the sources differ from those where the sweep was started: install the same version")
    hw = cell.config.hw
    bound = dataclasses.replace(hw, threads=hw.threads or threads)
    return dataclasses.replace(cell, config=dataclasses.replace(cell.config, hw=bound))


def _measure(
    order: units.Order, started: units.Started, cell: Cell, children: Children, progress: Progress
) -> units.UnitOutcome:
    results, (planned,) = Path(order.results), order.cells
    earlier = units.tries(results, planned.record_id)  # that were lost
    folder = results / units.try_id(planned.record_id, len(earlier) + 1)
    site = Site(
        launcher=order.launcher,
        node=started.node,
        cores=started.cores,
        job=started.job,
        has_whole_node=order.has_whole_node,
    )
    machine = environment()
    machine = replace(machine, versions={**machine.versions, **cell.code.versions})
    assert planned.sweep is not None
    identity = identity_of_cell(cell, order.run_id, folder.name, machine, planned.is_reference, planned.sweep, site)
    progress.start(cell.label)
    record = measure_cell(cell, folder, identity, children, progress, HardwarePeaks([cell], children, progress))
    return units.UnitOutcome(status=record.status, reason=record.reason, record_id=record.record_id)


def _compare(order: units.Order, cells: Sequence[Cell], progress: Progress) -> units.UnitOutcome:
    """Time the cells in turns; what fails is noted in the file of each comparison."""
    results = Path(order.results)
    runners = [Runner(cell, results / planned.record_id) for cell, planned in zip(cells, order.cells, strict=True)]
    compare_launches(cells[0].config.runtime.title, runners[0], runners[1:], progress.note, None, progress.tick)
    return units.UnitOutcome(status="ok")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
