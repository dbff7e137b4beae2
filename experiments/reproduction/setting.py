"""In what the machine, the versions and the code differ from those of a record: then its figures may differ too."""

from __future__ import annotations

from runtime_matrix.experiments.analysis.matrix import machine
from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.records.environment import environment, machine_differences, machine_facts, memory_class
from runtime_matrix.experiments.records.processor import describe
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import Environment, Record

_DIGITS = 7  # of a commit
Differences = tuple[list[str], bool]  # texts, and whether the machine is the same


def differences_of_record(record: Record, cell: Cell) -> Differences:
    """Return the differences from a record's machine, versions and code, and whether the machine is the same."""
    here, there = environment(), record.environment
    of_machine = machine_differences(machine_facts(there), here)
    if memory_class(there) is not None and memory_class(there) != memory_class(here):
        of_machine.append(f"memory {there.memory_bytes} bytes, here {here.memory_bytes}")
    of_machine += _threads(record.hw.threads, cell)
    versions = {**here.versions, **cell.code.versions}
    others = [
        f"{name} {version or 'not installed'}, here {versions.get(name) or 'not installed'}"
        for name, version in there.versions.items()
        if name in versions and version != versions.get(name)
    ]
    if there.python != here.python:
        others.append(f"Python {there.python}, here {here.python}")
    if record.code is None:
        others += _commit(there.commit, here)
    elif record.code.digest != cell.code.digest:
        others.append(f"the code of the runtime, its reference or the benchmarks{_commits(there.commit, here)}")
    return [*of_machine, *others], not of_machine


def differences_of_row(row: Row, cell: Cell) -> Differences:
    """Return the differences from what a published row tells, which has no versions."""
    here = environment()
    of_machine = _threads(row.threads, cell)
    description = describe(here)
    if row.machine_description != description:
        of_machine.append(f"machine {row.machine_description}, here {description}")
    elif row.machine and row.machine != machine(here, row.hw):
        of_machine.append("another host, or other limits of cores and memory")
    return [*of_machine, *_commit(row.commit, here)], not of_machine


def _threads(recorded: int, cell: Cell) -> list[str]:
    return [] if recorded == cell.threads else [f"{recorded} threads, here {cell.threads}"]


def _commit(recorded: str | None, here: Environment) -> list[str]:
    if recorded == here.commit and not here.is_dirty:
        return []
    return [f"the program{_commits(recorded, here)}"]


def _commits(recorded: str | None, here: Environment) -> str:
    changed = " with changes" if here.is_dirty else ""
    names = [(commit or "unknown")[:_DIGITS] for commit in (recorded, here.commit)]
    return f": commit {names[0]}, here {names[1]}{changed}"
