"""A sweep in units, on nodes that are faked: one record per cell whatever happens, comparisons whole, resumption."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.execution.progress import Progress
from runtime_matrix.experiments.launchers.launcher import JobState, Unit
from runtime_matrix.experiments.records.store import read_results, read_speed
from runtime_matrix.experiments.sweeps import units
from runtime_matrix.experiments.sweeps.distributed import launcher_of
from runtime_matrix.experiments.sweeps.earlier_units import only_sweep
from runtime_matrix.experiments.sweeps.measure import measure_cells
from tests.experiments.sweeps.faked_nodes import NODE, Behaviour, FakedNodes, begin, cells, measured, well

LOST = JobState("lost", reason="NODE_FAIL, Slurm job 7 on n1", node="n1")


def on(fault: str, behaviour: Behaviour) -> Behaviour:
    """Return the behaviour for the cell with this option; others do well."""

    def chosen(unit: Unit, order: units.Order, number: int) -> JobState | None:
        is_meant = order.kind == "cell" and order.cells[0].resolved["runtime"]["engine"]["fault"] == fault
        return (behaviour if is_meant else well)(unit, order, number)

    return chosen


def test_cells_are_measured_once_each_and_compared_as_one_unit(tmp_path: Path) -> None:
    nodes = FakedNodes()
    planned = cells(tmp_path)
    records, is_whole = measured(planned, nodes)
    assert is_whole
    assert [record.config_hash for record in records] == [cell.config_hash for cell in planned]
    assert [record.is_reference for record in records] == [True, False, False]
    assert {record.environment.hostname for record in records} == {NODE}
    assert [unit.name.partition("-")[0] for unit in nodes.submitted] == ["fake", "fake", "fake", "comparison"]
    order = nodes.orders[nodes.submitted[-1].name]
    assert [one.record_id for one in order.cells] == [record.record_id for record in records]
    assert order.inputs == [f"{record.record_id}/record.json" for record in records]
    assert order.has_whole_node
    assert all((tmp_path / record.record_id / "output_diff.json").exists() for record in records[1:])


def test_only_cells_that_take_times_have_a_node_to_themselves(tmp_path: Path) -> None:
    nodes = FakedNodes()
    measured(cells(tmp_path / "a", faults=["none"]), nodes)
    measured(cells(tmp_path / "b", "benchmark=[latency]", faults=["none"]), nodes)
    assert [unit.is_timed for unit in nodes.submitted] == [False, True]


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_job_that_left_no_record_is_a_row_with_its_state(tmp_path: Path, has_begun: bool) -> None:
    def late(unit: Unit, order: units.Order, number: int) -> JobState:
        if has_begun:
            begin(unit, order)
        return JobState("ended", "timeout", "TIMEOUT, Slurm job 7 on n1", "n1")

    records, is_whole = measured(cells(tmp_path), FakedNodes(on("error", late)))
    assert is_whole
    assert [record.status for record in records] == ["ok", "timeout", "ok"]
    assert records[1].reason == "TIMEOUT, Slurm job 7 on n1"
    assert records[1].environment.hostname == (NODE if has_begun else None)
    assert len(read_results(tmp_path)[0]) == 3


def test_a_lost_cell_is_measured_again_in_a_folder_of_its_own(tmp_path: Path) -> None:
    def once(unit: Unit, order: units.Order, number: int) -> JobState | None:
        if number > 1:
            return well(unit, order, number)
        begin(unit, order)
        return LOST

    records, _ = measured(cells(tmp_path), FakedNodes(on("hang", once)))
    assert [record.status for record in records] == ["ok"] * 3
    assert records[2].record_id.endswith("-try2")
    first = read_results(tmp_path, [tmp_path / records[2].record_id.removesuffix("-try2")])[0][0].record
    assert (first.status, first.reason) == ("interrupted", f"{LOST.reason}; it is measured again")


def test_an_outcome_that_comes_after_the_job_was_given_up_is_refused(tmp_path: Path) -> None:
    late: list[tuple[Unit, units.Order]] = []

    def silent(unit: Unit, order: units.Order, number: int) -> JobState:
        late.append((unit, order))
        return JobState("ended", "timeout", "TIMEOUT")

    (record,), _ = measured(cells(tmp_path, faults=["none"]), FakedNodes(silent))
    (unit, order) = late[0]
    assert not units.write_outcome(unit.folder, unit.token, units.UnitOutcome(status="ok"))
    assert units.read_outcome(unit.folder, order.token) == units.UnitOutcome(status="timeout", reason="TIMEOUT")
    assert record.status == "timeout"


def test_a_comparison_that_fails_is_noted_beside_its_records(tmp_path: Path) -> None:
    def failing(unit: Unit, order: units.Order, number: int) -> JobState | None:
        return well(unit, order, number) if order.kind == "cell" else JobState("ended", "timeout", "TIMEOUT")

    records, _ = measured(cells(tmp_path), FakedNodes(failing))
    for record in records[1:]:
        speed = read_speed(tmp_path / record.record_id)
        assert speed is not None
        assert (speed.reason, speed.against, speed.launches) == ("timeout: TIMEOUT", records[0].record_id, [])
    assert read_speed(tmp_path / records[0].record_id) is None


def test_without_a_measured_reference_nothing_is_compared(tmp_path: Path) -> None:
    nodes = FakedNodes(on("none", lambda *_: JobState("ended", "out_of_memory", "OUT_OF_MEMORY", "n1")))
    records, is_whole = measured(cells(tmp_path), nodes)
    assert is_whole
    assert [record.status for record in records] == ["out_of_memory", "ok", "ok"]
    assert len(nodes.submitted) == 3


def test_recorded_cells_are_not_measured_again_whatever_node_measured_them(tmp_path: Path) -> None:
    first, _ = measured(cells(tmp_path), FakedNodes(on("hang", lambda *_: JobState("ended", "timeout", "TIMEOUT"))))
    nodes = FakedNodes()
    records, is_whole = measured(cells(tmp_path, "resume=true"), nodes)
    assert is_whole
    assert [record.record_id for record in records[:2]] == [record.record_id for record in first[:2]]
    assert [record.status for record in records] == ["ok"] * 3
    assert [nodes.orders[unit.name].kind for unit in nodes.submitted] == ["cell", "comparison"]


class Killed(BaseException):
    """Ends a sweep as `kill -9` does: nothing is cancelled or written."""


def killed_sweep(results: Path) -> Unit:
    """Kill a sweep of one cell while its job runs, and return the unit."""
    nodes = FakedNodes()

    def kill(jobs: list[str]) -> dict[str, JobState]:
        if jobs:
            raise Killed
        return {}

    nodes.poll = kill  # type: ignore[method-assign,assignment]
    nodes.cancel = kill  # type: ignore[method-assign,assignment]
    with pytest.raises(Killed):
        measured(cells(results, faults=["none"]), nodes)
    return nodes.submitted[0]


def test_a_job_of_a_killed_sweep_is_waited_for(tmp_path: Path) -> None:
    unit = killed_sweep(tmp_path)
    order = units.read_order(unit.folder)
    assert order is not None
    begin(unit, order)
    nodes = FakedNodes()
    nodes.states = {"job-1": JobState("running", node=NODE)}

    def ended(unit: Unit, order: units.Order) -> None:
        folder = tmp_path / order.cells[0].record_id
        units.write_outcome(unit.folder, unit.token, units.UnitOutcome(status="ok", record_id=folder.name))

    poll, polls = nodes.poll, iter(range(9))

    def third_time(jobs: list[str]) -> dict[str, JobState]:
        if next(polls) == 3:
            from runtime_matrix.experiments.sweeps.one_cell import write_failure

            write_failure(tmp_path / order.cells[0].record_id, "ok", None)
            ended(unit, order)
        return dict(poll(jobs))

    nodes.poll = third_time  # type: ignore[method-assign,assignment]
    (record,), is_whole = measured(cells(tmp_path, "resume=true", faults=["none"]), nodes)
    assert is_whole
    assert (record.status, record.record_id) == ("ok", order.cells[0].record_id)
    assert nodes.submitted == []
    assert len(read_results(tmp_path)[0]) == 1


def test_a_job_that_timed_out_after_its_sweep_was_killed_is_a_row_and_is_tried_again(tmp_path: Path) -> None:
    unit = killed_sweep(tmp_path)
    order = units.read_order(unit.folder)
    assert order is not None
    begin(unit, order)
    nodes = FakedNodes()
    nodes.states = {"job-1": JobState("ended", "timeout", "TIMEOUT, Slurm job 1")}
    nodes._jobs["job-0"] = (unit, 1)  # so that new ids differ
    nodes.submitted.append(unit)
    (record,), _ = measured(cells(tmp_path, "resume=true", faults=["none"]), nodes)
    assert record.status == "ok"
    found = {result.record.status: result.record.reason for result in read_results(tmp_path)[0]}
    assert found == {"timeout": "TIMEOUT, Slurm job 1", "ok": None}


def test_without_resume_a_job_of_a_killed_sweep_is_ended(tmp_path: Path) -> None:
    unit = killed_sweep(tmp_path)
    nodes = FakedNodes()
    nodes.states = {"job-1": JobState("running", node=NODE)}
    nodes.submitted.append(unit)  # so that new ids differ
    (record,), _ = measured(cells(tmp_path, faults=["none"]), nodes)
    assert record.status == "ok"
    assert nodes.cancelled == ["job-1"]
    assert nodes.submitted[-1].token != unit.token


def test_a_folder_that_a_node_does_not_see_is_named_in_one_line(tmp_path: Path) -> None:
    nodes = FakedNodes(lambda *_: JobState("ended", "crash", "FAILED, Slurm job 1 on n1", "n1"))
    with pytest.raises(UserError, match=f"results_dir={tmp_path}: n1 cannot use it, .*FAILED, Slurm job 1 on n1"):
        measured(cells(tmp_path, faults=["none"]), nodes)


def test_a_job_that_fails_on_one_node_of_several_is_a_row(tmp_path: Path) -> None:
    def after_the_others(unit: Unit, order: units.Order, number: int) -> JobState | None:
        return JobState("ended", "crash", "FAILED, Slurm job 9 on n9", "n9")

    def seen(unit: Unit, order: units.Order, number: int) -> JobState | None:
        if order.kind == "cell":
            begin(unit, order)
            compute_outcome(unit, order)
        return None

    def compute_outcome(unit: Unit, order: units.Order) -> None:
        from runtime_matrix.experiments.sweeps.one_cell import write_failure

        folder = Path(order.results) / order.cells[0].record_id
        write_failure(folder, "ok", None)
        units.write_outcome(unit.folder, unit.token, units.UnitOutcome(status="ok", record_id=folder.name))

    def behaviour(unit: Unit, order: units.Order, number: int) -> JobState | None:
        fault = order.cells[0].resolved["runtime"]["engine"]["fault"]
        return after_the_others(unit, order, number) if fault == "hang" else seen(unit, order, number)

    records, _ = measured(cells(tmp_path, "comparison.enabled=false"), FakedNodes(behaviour))
    assert [record.status for record in records] == ["ok", "ok", "crash"]
    assert records[2].reason == "FAILED, Slurm job 9 on n9"


def test_after_the_deadline_nothing_is_submitted(tmp_path: Path) -> None:
    nodes = FakedNodes()
    records, is_whole = measured(cells(tmp_path), nodes, seconds=0)
    assert (records, is_whole, nodes.submitted) == ([], False, [])


def test_two_sweeps_cannot_share_a_folder(tmp_path: Path) -> None:
    with only_sweep(tmp_path / "units"), pytest.raises(UserError, match=r"another sweep \(process \d+ on .+\) uses it"):
        measured(cells(tmp_path), FakedNodes())


def test_a_sweep_has_one_launcher(tmp_path: Path) -> None:
    here, there = cells(tmp_path, "launcher=local", faults=["none"]), cells(tmp_path, faults=["hang"])
    assert launcher_of(there).name == "slurm"
    with pytest.raises(UserError, match=r"a sweep has one launcher .*; found local, slurm"):
        launcher_of([*here, *there])


def test_commands_that_measure_here_refuse_another_launcher(tmp_path: Path) -> None:
    with Progress(1, is_enabled=False) as progress, pytest.raises(UserError, match="launcher=slurm is for sweeps"):
        measure_cells(cells(tmp_path), progress)


def test_the_launcher_is_no_part_of_a_cells_identity(tmp_path: Path) -> None:
    (here,), (there,) = cells(tmp_path, "launcher=local", faults=["none"]), cells(tmp_path, faults=["none"])
    assert here.config_hash == there.config_hash
