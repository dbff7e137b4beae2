"""The launcher `slurm` with a real Slurm of one node: what it refuses, and what becomes of its jobs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.launchers import slurm as launcher
from runtime_matrix.experiments.launchers.launcher import JobState, Scheduler, Unit, Unreachable
from runtime_matrix.experiments.launchers.registry import launchers
from runtime_matrix.experiments.launchers.slurm import SlurmConfig
from runtime_matrix.experiments.launchers.slurm_states import read_states
from tests.experiments.launchers.local_slurm import LocalSlurm

pytest.importorskip("submitit", reason="the extra slurm is not installed")


def unit(folder: Path, name: str, is_timed: bool = False) -> Unit:
    return Unit(name, folder / name, "token", is_timed=is_timed, limit_s=60)


def until(scheduler: Scheduler, jobs: Sequence[str], is_met: Callable[[JobState], bool]) -> dict[str, JobState]:
    """Return the states of the jobs once all of them are as wanted."""
    end = time.monotonic() + 60
    states = scheduler.poll(jobs)
    while not all(is_met(state) for state in states.values()):
        assert time.monotonic() < end, states
        time.sleep(0.3)
        states = scheduler.poll(jobs)
    return dict(states)


def running(monkeypatch: pytest.MonkeyPatch, *command: str) -> None:
    """Have each job run another command than that of a unit."""
    monkeypatch.setattr(launcher, "unit_command", lambda unit: list(command))


def test_a_partition_that_does_not_exist_is_refused(slurm: LocalSlurm, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"launcher.partition=debgu does not exist; did you mean 'debug'\?"):
        launchers()["slurm"].connect(SlurmConfig(partition="debgu"), tmp_path)


def test_options_that_sbatch_refuses_are_refused(slurm: LocalSlurm, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sbatch refuses the options: .*configuration is not available") as refusal:
        launchers()["slurm"].connect(SlurmConfig(cpus=999), tmp_path)
    assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match="sbatch refuses the options"):
        launchers()["slurm"].connect(SlurmConfig(sbatch={"no_such_option": 1}), tmp_path)


def test_a_machine_without_slurm_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no sbatch on this machine"):
        launchers()["slurm"].connect(SlurmConfig(), tmp_path)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"pip install 'runtime-matrix\[slurm\]'"):
        launchers()["slurm"].connect(SlurmConfig(), tmp_path)


def test_jobs_are_bound_to_their_cores_and_a_timed_one_has_the_node(
    slurm: LocalSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = launchers()["slurm"].connect(SlurmConfig(), tmp_path)
    assert scheduler is not None
    program = "import os; print(sorted(os.sched_getaffinity(0)), os.environ['SLURM_JOB_NUM_NODES'])"
    running(monkeypatch, sys.executable, "-c", program)
    units = [unit(tmp_path, "a"), unit(tmp_path, "b"), unit(tmp_path, "timed", is_timed=True)]
    jobs = {unit.name: job for unit, job in scheduler.submit(units)}
    assert jobs["a"].partition("_")[0] == jobs["b"].partition("_")[0]  # one array
    states = until(scheduler, list(jobs.values()), lambda state: state.phase == "ended")
    node = slurm.run("hostname", "-s")
    assert all(state.node == node and "COMPLETED, Slurm job" in str(state.reason) for state in states.values())
    logs = {name: (tmp_path / "units/.slurm" / job / f"{job}_0_log.out").read_text() for name, job in jobs.items()}
    all_cores = slurm.run(sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))")
    assert f"{all_cores} 1\n" in logs["timed"]
    if len(all_cores.split()) > 1:
        assert all_cores not in logs["a"]
        assert all_cores not in logs["b"]


def test_a_cancelled_job_is_interrupted_and_an_unknown_one_lost(
    slurm: LocalSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = launchers()["slurm"].connect(SlurmConfig(), tmp_path)
    assert scheduler is not None
    running(monkeypatch, "sleep", "60")
    units = [unit(tmp_path, "runs", is_timed=True), unit(tmp_path, "waits", is_timed=True)]
    first, second = [job for _, job in scheduler.submit(units)]
    until(scheduler, [first], lambda state: state.phase == "running")
    scheduler.cancel([first, second], only_waiting=True)
    states = until(scheduler, [second], lambda state: state.phase == "ended")
    assert states[second].status == "interrupted"
    assert str(states[second].reason).startswith("CANCELLED, Slurm job")
    assert scheduler.poll([first])[first].phase == "running"
    scheduler.cancel([first])
    states = until(scheduler, [first], lambda state: state.phase == "ended")
    assert states[first].status == "interrupted"
    unknown = scheduler.poll(["999999"])["999999"]
    assert unknown.phase == "lost"
    assert "is unknown to Slurm" in str(unknown.reason)


def test_a_job_that_fails_gives_the_last_line_of_its_output(
    slurm: LocalSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SlurmConfig(setup=("echo the module does not exist", "exit 3"))
    scheduler = launchers()["slurm"].connect(config, tmp_path)
    assert scheduler is not None
    ((_, job),) = scheduler.submit([unit(tmp_path, "a")])
    state = until(scheduler, [job], lambda state: state.phase == "ended")[job]
    assert state.status == "crash"
    assert str(state.reason).startswith("FAILED, Slurm job")
    assert str(state.reason).endswith(": the module does not exist")


def test_a_controller_that_is_gone_is_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(*command: str, **_: object) -> subprocess.CompletedProcess[str]:
        text = "slurm_load_partitions: Unable to contact slurm controller (connect failure)\n"
        return subprocess.CompletedProcess(command, 1, "", text)

    monkeypatch.setattr(subprocess, "run", answers)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(UserError, match=r"the scheduler does not answer: .*Unable to contact"):
        launchers()["slurm"].connect(SlurmConfig(), tmp_path)
    scheduler = launcher.SlurmScheduler(SlurmConfig(), tmp_path)
    with pytest.raises(Unreachable, match="Unable to contact"):
        scheduler.poll(["1"])
    with pytest.raises(Unreachable, match="Unable to contact"):
        scheduler.cancel(["1"])


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("7|PENDING||(Resources)", JobState("waiting", reason="Resources")),
        ("7|CONFIGURING|n1|None", JobState("waiting", reason="None", node="n1")),
        ("7|RUNNING|n1|None", JobState("running", node="n1")),
        ("7|COMPLETING|n1|None", JobState("running", node="n1")),
        ("7|TIMEOUT|n1|TimeLimit", JobState("ended", "timeout", "TIMEOUT, Slurm job 7 on n1", "n1")),
        ("7|DEADLINE||DeadLine", JobState("ended", "timeout", "DEADLINE, Slurm job 7")),
        ("7|OUT_OF_MEMORY|n1|", JobState("ended", "out_of_memory", "OUT_OF_MEMORY, Slurm job 7 on n1", "n1")),
        ("7|CANCELLED by 0|n1|0:0", JobState("ended", "interrupted", "CANCELLED, Slurm job 7 on n1", "n1")),
        ("7|CANCELLED+|None assigned|0:0", JobState("ended", "interrupted", "CANCELLED, Slurm job 7")),
        ("7|FAILED|n1|NonZeroExitCode", JobState("ended", "crash", "FAILED, Slurm job 7 on n1", "n1")),
        ("7|NODE_FAIL|n1|", JobState("lost", reason="NODE_FAIL, Slurm job 7 on n1", node="n1")),
        ("7|PREEMPTED|n1|", JobState("lost", reason="PREEMPTED, Slurm job 7 on n1", node="n1")),
        ("7|BOOT_FAIL|n1|", JobState("lost", reason="BOOT_FAIL, Slurm job 7 on n1", node="n1")),
        ("7|OF_A_LATER_VERSION|n1|", JobState("running", reason="OF_A_LATER_VERSION", node="n1")),
    ],
)
def test_each_state_of_slurm_means_something_for_the_unit(line: str, state: JobState) -> None:
    assert read_states(line) == {"7": state}


def test_lines_that_are_no_states_are_left_out() -> None:
    assert read_states("Slurm accounting storage is disabled\n\n3_1|RUNNING|n1|None\n").keys() == {"3_1"}


@pytest.mark.parametrize(
    ("config", "is_alone", "options"),
    [
        (SlurmConfig(), True, {"no-requeue": True, "exclusive": True, "mem": "0"}),
        (SlurmConfig(cpus=4, memory_gib=1.5), False, {"no-requeue": True, "cpus-per-task": "4", "mem": "1536M"}),
        (SlurmConfig(), False, {"no-requeue": True, "cpus-per-task": "1"}),
        (
            SlurmConfig(gpus=2),
            True,
            {"no-requeue": True, "exclusive": True, "mem": "0", "gpus-per-node": "2"},
        ),
        (
            SlurmConfig(partition="p", account="a", sbatch={"mem": "3G", "export_file": True}),
            False,
            {
                "no-requeue": True,
                "cpus-per-task": "1",
                "partition": "p",
                "account": "a",
                "mem": "3G",
                "export-file": True,
            },
        ),
    ],
)
def test_options_become_those_of_sbatch(config: SlurmConfig, is_alone: bool, options: dict[str, object]) -> None:
    assert config.options(is_alone, wants_gpu=False) == options
