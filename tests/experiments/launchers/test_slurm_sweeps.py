"""Whole sweeps through a real Slurm: failures of jobs become rows, and nothing is lost when parts of it are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.records.store import read_results
from tests.conftest import ROOT
from tests.experiments.launchers.local_slurm import LocalSlurm

pytest.importorskip("submitit", reason="the extra slurm is not installed")
pytestmark = pytest.mark.slow

FAKE = (
    *("-m", "runtime=fake", "runtime@reference=fake", "benchmark=[extractive_qa]", "limit=2", "hw.threads=1"),
    *("agreement.enabled=false", "comparison.enabled=false", "monitoring=[]", "launch=exec"),
    *("launcher=slurm", "launcher.poll_s=0.5"),
)
NO_ANSWER = "the scheduler does not answer"


def command(results: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "experiments.run", *FAKE, *words, f"results_dir={results}"]


def started(results: Path, *words: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command(results, *words), cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def ended(process: subprocess.Popen[str], code: int) -> str:
    output, _ = process.communicate(timeout=400)
    assert process.returncode == code, output
    return output


def wait_for(what: Callable[[], object], seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.2)


def running_units(results: Path) -> list[Path]:
    return sorted(path.parent for path in results.glob("units/*/started-*.json"))


def job_of(folder: Path) -> str:
    return str(json.loads((folder / "job.json").read_text())["job"])


def records(results: Path) -> list[Record]:
    found, refused = read_results(results)
    assert refused == []
    return [result.record for result in found]


def statuses(results: Path) -> list[str]:
    return sorted(record.status for record in records(results))


def test_a_time_out_and_a_cancellation_are_rows_with_their_reason(slurm: LocalSlurm, tmp_path: Path) -> None:
    words = ["runtime.engine.fault=none,hang", "seed=0,1", "launcher.time=1"]
    sweep = started(tmp_path, *words)

    def hanging() -> list[Path]:
        """Return the folders of the units whose cells hang, once they are being measured."""
        journals = {path.parent.name: path.read_text() for path in tmp_path.glob("*/journal.jsonl")}
        hang = [name for name, text in journals.items() if '"fault": "hang"' in text and "agreement" in text]
        return [path for path in running_units(tmp_path) if any(_record_id(path) == name for name in hang)]

    wait_for(lambda: len(hanging()) == 2)
    slurm.run("scancel", job_of(hanging()[0]))
    output = ended(sweep, 1)
    assert statuses(tmp_path) == ["interrupted", "ok", "ok", "timeout"]
    reasons = {record.status: str(record.reason) for record in records(tmp_path)}
    node = slurm.run("hostname", "-s")
    assert reasons["timeout"].startswith("TIMEOUT, Slurm job ")
    assert reasons["timeout"].endswith(f" on {node}")
    assert reasons["interrupted"].startswith("CANCELLED, Slurm job ")
    assert reasons["timeout"] in output
    for record in records(tmp_path):
        assert record.site is not None
        assert (record.site.launcher, record.site.has_whole_node) == ("slurm", False)
        assert len(record.site.cores) <= 1 or os.cpu_count() == 1
        assert record.environment.cores == len(record.site.cores)


def _record_id(folder: Path) -> str:
    return str(json.loads((folder / "unit.json").read_text())["cells"][0]["record_id"])


def test_a_killed_parent_and_a_killed_scheduler_lose_nothing(slurm: LocalSlurm, tmp_path: Path) -> None:
    words = ["seed=0,1,2", "runtime.engine.load_s=25"]
    parent = started(tmp_path, *words)
    wait_for(lambda: running_units(tmp_path))
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    slurm.stop_controller()
    output = ended(started(tmp_path, *words, "resume=true"), 2)
    assert output.count("\n") == 1
    assert NO_ANSWER in output
    slurm.start_controller()
    slurm.wait_for_node()
    resumed = started(tmp_path, *words, "resume=true")
    assert resumed.stdout is not None
    lines: list[str] = []
    while not lines or "jobs of an earlier command are waited for" not in lines[-1]:
        lines.append(resumed.stdout.readline())
        assert lines[-1], lines
    slurm.stop_controller()  # now while a sweep runs
    time.sleep(3)
    slurm.start_controller()
    slurm.wait_for_node()
    ended(resumed, 0)
    assert statuses(tmp_path) == ["ok"] * 3
    assert len({record.config_hash for record in records(tmp_path)}) == 3
    again = ended(started(tmp_path, *words, "resume=true"), 0)
    assert again.count("recorded earlier") == 3


def test_a_new_sweep_ends_the_jobs_of_a_killed_one(slurm: LocalSlurm, tmp_path: Path) -> None:
    parent = started(tmp_path, "runtime.engine.load_s=60")
    wait_for(lambda: list(tmp_path.glob("*/journal.jsonl")))
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    (folder,) = running_units(tmp_path)
    job = job_of(folder)
    other = ended(started(tmp_path, "runtime.engine.load_s=60", "seed=7", "stop_after_s=0"), 3)
    assert "are left" in other  # another cell: the job is none of its business
    assert slurm.run("squeue", "-h", "-j", job)
    sweep = started(tmp_path, "runtime.engine.load_s=60")
    wait_for(lambda: "CANCELLED" in slurm.run("squeue", "-h", "--states=all", "-o", "%T", "-j", job))
    sweep.send_signal(signal.SIGTERM)
    ended(sweep, 143)
    assert slurm.run("squeue", "-h") == ""
    assert set(statuses(tmp_path)) <= {"interrupted"}


def test_ctrl_c_cancels_the_jobs_and_records_those_that_had_begun(slurm: LocalSlurm, tmp_path: Path) -> None:
    sweep = started(tmp_path, "runtime.engine.fault=hang", "seed=0,1,2,3")
    wait_for(lambda: len(list(tmp_path.glob("*/journal.jsonl"))) >= 1)
    sweep.send_signal(signal.SIGINT)
    ended(sweep, 130)
    assert slurm.run("squeue", "-h") == ""
    assert set(statuses(tmp_path)) == {"interrupted"}
    assert {record.reason for record in records(tmp_path)} == {"interrupted by the user"}
    assert len(records(tmp_path)) < 4


def test_a_folder_that_the_nodes_do_not_see_is_named(slurm: LocalSlurm, tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("this machine cannot make a mount name space, which hides a folder from the node")
    results = tmp_path / "runs"
    results.mkdir()
    line = " ".join(f"'{word}'" for word in command(results))
    hidden: Sequence[str] = ["unshare", "-m", "sh", "-c", f"mount -t tmpfs none {results} && {line}"]
    done = subprocess.run(hidden, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 2, done.stderr
    (error,) = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert f"results_dir={results}: {slurm.run('hostname', '-s')} cannot use it" in error
    assert "shared with the nodes" in error
