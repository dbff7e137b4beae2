"""The process of a unit: when it does nothing, and what it refuses to measure."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.records.schema import Sweep
from runtime_matrix.experiments.sweeps import unit, units
from tests.experiments.sweeps.faked_nodes import cells


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def order(tmp_path: Path) -> units.Order:
    (cell,) = cells(tmp_path, faults=["none"])
    planned = units.PlannedCell(
        resolved=cell.resolved,
        command=cell.command,
        config_hash=cell.config_hash,
        code=cell.code.digest,
        record_id="record",
        is_reference=True,
        sweep=Sweep(id="s", cells=1, index=0),
    )
    return units.Order(
        token="token",
        kind="cell",
        launcher="faked",
        results=str(tmp_path),
        working_folder=str(Path.cwd()),
        run_id="run",
        cells=[planned],
        has_whole_node=False,
    )


def run(folder: Path, order: units.Order, token: str = "token") -> int:
    units.write_order(folder, order)
    return unit.main([str(folder), token])


def test_a_folder_that_is_not_here_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unit.main([str(tmp_path / "absent"), "token"]) != 0
    assert "is the folder shared?" in capsys.readouterr().err


def test_a_job_of_an_earlier_command_does_nothing(tmp_path: Path, order: units.Order) -> None:
    assert run(tmp_path / "unit", order, "an earlier token") == 0
    assert units.read_started(tmp_path / "unit", "token") is None
    assert units.read_started(tmp_path / "unit", "an earlier token") is None


def test_a_unit_with_an_outcome_is_not_computed_again(tmp_path: Path, order: units.Order) -> None:
    folder = tmp_path / "unit"
    units.write_order(folder, order)
    assert units.write_outcome(folder, "token", units.UnitOutcome(status="timeout"))
    assert unit.main([str(folder), "token"]) == 0
    assert units.read_started(folder, "token") is None


def test_a_cell_that_is_another_one_here_is_not_measured(tmp_path: Path, order: units.Order) -> None:
    (planned,) = order.cells
    for changed, reason in (
        (replace(planned, config_hash="of other data"), "the model, the data or a preset differs"),
        (replace(planned, code="of other sources"), "the sources differ"),
        (replace(planned, resolved={**planned.resolved, "scoring": None}), "scoring must be a mapping"),
    ):
        folder = tmp_path / reason.replace(" ", "-")
        assert run(folder, replace(order, cells=[changed])) == 0
        outcome = units.read_outcome(folder, "token")
        assert outcome is not None
        assert (outcome.status, outcome.record_id) == ("error", None)
        assert reason in str(outcome.reason)
        assert units.read_started(folder, "token") is not None


def test_an_order_replaces_what_an_earlier_one_left(tmp_path: Path, order: units.Order) -> None:
    units.write_order(tmp_path, order)
    units.write_job(tmp_path, "7")
    units.write_started(tmp_path, "token")
    units.write_outcome(tmp_path, "token", units.UnitOutcome(status="ok"))
    assert units.read_job(tmp_path, "token") == "7"
    units.write_order(tmp_path, replace(order, token="another"))
    assert units.read_job(tmp_path, "another") is None
    assert units.read_started(tmp_path, "token") is None
    assert units.read_outcome(tmp_path, "token") is None


def test_the_job_is_known_from_the_process_if_the_sweep_could_not_write_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    units.write_started(tmp_path, "token")
    assert units.read_job(tmp_path, "token") == "12_3"
