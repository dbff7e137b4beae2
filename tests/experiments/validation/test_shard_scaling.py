"""The benchmark of shards gives rates, a speedup and the cost of interruptions, of runs of our own command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.run import main
from runtime_matrix.experiments.tasks.registry import further_metric
from runtime_matrix.experiments.validation import whole_cpu
from runtime_matrix.experiments.validation.shard_runs import Run, process_of
from runtime_matrix.experiments.validation.shard_scaling import interruptions, scaling
from tests.in_process import call

FAST = ("hw.threads=1", "agreement.enabled=false", "comparison.enabled=false", "monitoring=[]", "progress=false")
FAKE = '"runtime=fake","runtime@reference=fake","runtime.engine.vocabulary=2048","runtime.engine.token_s=0.01"'


def run_of(rate: float | None = None, cpu_s: float = 10.0) -> Run:
    return Run(rate, 9.0, 1.0, cpu_s, 12.0)


def test_efficiency_is_the_rate_per_process_over_that_of_one() -> None:
    whole = {(1, 1): [run_of(100.0)] * 3, (2, 1): [run_of(180.0)] * 3, (1, 2): [run_of(150.0)] * 3}
    figures = scaling(whole, most=2)
    assert figures["shards_2_items_per_hour"] == 180.0
    assert figures["shards_2_speedup_ratio"] == pytest.approx(1.8)
    assert figures["shards_2_efficiency_ratio"] == pytest.approx(0.9)
    assert figures["shards_2_efficiency_ratio_low"] == pytest.approx(0.9)
    assert figures["data_parallel_ratio"] == pytest.approx(1.2)
    assert figures["shards_2_merge_ratio"] == pytest.approx(0.1)
    assert all(further_metric(name) is not None for name in figures if name.startswith("shards_"))


def test_a_lower_price_is_divided_by_the_work_that_an_interruption_costs() -> None:
    whole = [run_of(cpu_s=seconds) for seconds in (9.0, 10.0, 12.0)]
    runs = {"killed_shard": [run_of(cpu_s=11.0)], "stopped_run": [run_of(cpu_s=12.0), run_of(cpu_s=13.0)]}
    figures = interruptions(whole, runs, price_factor=3.0)
    assert figures["killed_shard_cpu_ratio"] == pytest.approx(1.1)
    assert figures["killed_shard_cpu_ratio_low"] is None  # one run has no interval
    assert figures["stopped_run_cpu_s"] == pytest.approx(2.5)
    loss, low, high = (figures[f"stopped_run_cpu_ratio{end}"] for end in ("", "_low", "_high"))
    assert isinstance(loss, float)
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low < loss < high
    left = [figures[f"spot_gain_ratio{end}"] for end in ("", "_low", "_high")]
    assert left == [pytest.approx(3.0 / value) for value in (loss, high, low)]
    assert interruptions(whole, {"killed_shard": []}, price_factor=3.0) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
def test_cpu_time_counts_processes_that_were_killed_or_lost_their_parent(tmp_path: Path) -> None:
    work = "import time\nwhile time.process_time() < 0.3: pass\n"
    killed = f"{work}import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    orphan = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-S', '-c', {killed!r}])\n"
    command = [sys.executable, "-S", whole_cpu.__file__, sys.executable, "-S", "-c", orphan]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, last = map(json.loads, done.stdout.splitlines())
    assert first["process"] > 0
    assert last["exit_code"] == 0
    assert last["cpu_s"] >= 0.3


def test_a_shard_without_a_process_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="no process writes"):
        process_of(tmp_path)


@pytest.mark.slow
def test_every_figure_is_measured(tmp_path: Path) -> None:
    sizes = ("rounds=1", "interruptions=1", "limit=4", "samples=1", f"overrides=[{FAKE}]")
    words = [f"benchmark.shard_scaling.{word}" for word in sizes]
    done = call(main, [*FAST, "benchmark=[shard_scaling]", *words, f"results_dir={tmp_path}"])
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("*/record.json")
    (entry,) = json.loads(path.read_text())["benchmarks"]
    figures: dict[str, Any] = entry["figures"]
    most = max(2, len(os.sched_getaffinity(0)))
    for name in (f"shards_{most}_speedup_ratio", "data_parallel_ratio", "killed_shard_cpu_ratio", "spot_gain_ratio"):
        assert figures[name] > 0
    assert figures["stopped_run_cpu_s"] > 0  # a second command has started
    assert "| shards 2 speedup ratio |" in (path.parent / "shard_scaling.md").read_text()


def test_the_experiment_composes() -> None:
    assert set(compose(["experiment=shards"])["benchmark"]) == {"shard_scaling"}
