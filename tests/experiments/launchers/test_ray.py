"""The launcher `ray` with a real Ray on this machine: what it refuses, two shards, and a worker that is killed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.launchers.ray import RayConfig
from runtime_matrix.experiments.launchers.registry import launchers
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.records.store import read_results
from tests.conftest import ROOT

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed: make install-slow"
)
FAKE = (
    *(
        "-m",
        "runtime=fake",
        "runtime@reference=fake",
        "benchmark=[extractive_qa]",
        "limit=4",
        "agreement.enabled=false",
    ),
    *("comparison.enabled=false", "monitoring=[]", "launch=exec", "launcher=ray"),
)


def command(results: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "experiments.run", *FAKE, *words, f"results_dir={results}"]


def records(results: Path) -> list[Record]:
    return [result.record for result in read_results(results)[0]]


def loading(results: Path) -> Path | None:
    """Return the file of a unit whose shard is being computed; None if there is none yet."""
    for journal in results.glob("shards/*/*/journal.jsonl"):
        files = list(results.glob(f"units/*-shard-{journal.parent.name}/started-*.json"))
        if "attempt" in journal.read_text() and files:
            return files[0]
    return None


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'runtime-matrix\[ray\]'"):
        launchers()["ray"].connect(RayConfig(), tmp_path)


@needs_ray
def test_an_address_at_which_nothing_answers_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(UserError, match=rf"launcher.address={address}: nothing answers \(Connection refused\)"):
        launchers()["ray"].connect(RayConfig(address=address), tmp_path)
    with pytest.raises(UserError, match=r"launcher.address=cluster must be HOST:PORT or auto"):
        launchers()["ray"].connect(RayConfig(address="cluster"), tmp_path)


@needs_ray
@pytest.mark.slow
def test_two_shards_survive_a_killed_worker(tmp_path: Path) -> None:
    words = ["shards=2", "runtime.engine.load_s=5"]
    pipe = subprocess.PIPE
    sweep = subprocess.Popen(command(tmp_path, *words), cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True)
    end = time.monotonic() + 200
    while not (begun := loading(tmp_path)):
        assert time.monotonic() < end
        assert sweep.poll() is None, sweep.communicate()[0]
        time.sleep(0.2)
    process = json.loads(begun.read_text())["process"]
    stat = Path(f"/proc/{process}/stat").read_text()
    os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)  # its parent: the worker of Ray
    output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, output
    (record,) = records(tmp_path)
    assert record.status == "ok"
    assert record.shards is not None
    assert sorted(shard.index for shard in record.shards.shards) == [0, 1]
    assert sum(shard.items["extractive_qa"] for shard in record.shards.shards) == 4
    assert max(shard.tries for shard in record.shards.shards) == 2
    assert record.site is not None
    assert record.site.launcher == "ray"
    assert not Path(f"/proc/{process}").exists()


@needs_ray
@pytest.mark.slow
def test_more_than_a_node_has_is_refused_in_one_line(tmp_path: Path) -> None:
    words = command(tmp_path, "launcher.gpus=3", "progress=false")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2, done.stderr
    assert "a unit needs 3 of GPU, and no node of the cluster has more than 0" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("~/.ray").expanduser().exists()
