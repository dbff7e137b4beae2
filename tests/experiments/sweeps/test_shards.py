"""Cells whose items are dealt to several processes: the same record, whatever is killed in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.execution.binding import core_groups
from runtime_matrix.experiments.measurement.topology import cpu_list, topology
from runtime_matrix.experiments.records.journal import read_journal
from runtime_matrix.experiments.sweeps.shards import only_process
from tests.conftest import ROOT

Run = Callable[..., subprocess.CompletedProcess[str]]
FAKE = (
    *("runtime=fake", "runtime@reference=fake", "runtime.engine.vocabulary=2048", "hw.threads=1"),
    *("benchmark=[multiple_choice,extractive_qa]", "limit=6", "comparison.enabled=false", "agreement.enabled=false"),
)


def record_of(results: Path) -> dict[str, Any]:
    newest = max(results.glob("*/record.json"), key=lambda path: path.stat().st_mtime_ns)
    record: dict[str, Any] = json.loads(newest.read_text())
    return record


def items_of(results: Path) -> dict[str, str]:
    newest = max(results.glob("*/record.json"), key=lambda path: path.stat().st_mtime_ns).parent
    return {path.name: path.read_text() for path in newest.glob("items-*.jsonl")}


def figure(record: dict[str, Any], benchmark: str, name: str) -> Any:
    return next(entry["figures"][name] for entry in record["benchmarks"] if entry["benchmark"] == benchmark)


def test_a_sharded_cell_has_the_items_of_an_unsharded_one_and_counts_the_work_of_its_shards(
    run: Run, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(*FAKE, f"results_dir={whole}").returncode == 0
    done = run(*FAKE, f"results_dir={parts}", "shards=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert items_of(parts) == items_of(whole)
    record, unsharded = record_of(parts), record_of(whole)
    assert record["config_hash"] == unsharded["config_hash"]
    assert [shard["items"] for shard in record["shards"]["shards"]] == [{"multiple_choice": 3, "extractive_qa": 3}] * 2
    assert record["shards"]["merge_s"] > 0
    assert record["shards"]["notes"] == []  # the process that merged computed nothing
    for name in ("accuracy", "standard_error", "by_subject", "items", "asked_tokens", "cached_responses"):
        expected = figure(unsharded, "multiple_choice", name)
        assert figure(record, "multiple_choice", name) == expected, name
    assert figure(record, "extractive_qa", "step_rows") == figure(unsharded, "extractive_qa", "step_rows")
    assert not list(parts.glob("shards/*/*/kept.sqlite*"))
    assert len(list(parts.glob("shards/*/*/shard.json"))) == 2


@pytest.mark.slow
def test_shards_of_a_scheduler_are_merged_when_all_are_there(run: Run, tmp_path: Path) -> None:
    first = run(*FAKE, "shards=2", "shard=1")
    assert first.returncode == 0, first.stderr
    assert "shard 1 of 2: ok, 6 items" in first.stdout
    assert not list((tmp_path / "runs").glob("*/record.json"))
    whole = run(*FAKE, "shards=2", "resume=true")
    assert whole.returncode == 0, whole.stderr
    record = record_of(tmp_path / "runs")
    assert record["status"] == "ok"
    one, other = record["shards"]["shards"]
    assert one["started_at"] > other["finished_at"]  # only the missing one was computed
    again = run(*FAKE, "shards=3", "resume=true")
    assert "recorded earlier" in again.stderr  # it is the same cell


@pytest.mark.slow
def test_a_shard_that_fails_is_the_reason_of_its_cell(run: Run, tmp_path: Path) -> None:
    done = run(*FAKE, "shards=2", "runtime.engine.fault=segfault", "tries=2")
    assert done.returncode == 1
    record = record_of(tmp_path / "runs")
    assert (record["status"], record["reason"]) == ("crash", "shard 0 of 2: killed by SIGSEGV; see output.log")
    assert [shard["tries"] for shard in record["shards"]["shards"]] == [2, 2]
    assert record["benchmarks"] == []


@pytest.mark.slow
def test_timed_benchmarks_run_whole_after_the_shards(run: Run, tmp_path: Path) -> None:
    quick = ("benchmark.latency.prompt_tokens=8", "benchmark.latency.new_tokens=4", "benchmark.latency.iterations=2")
    done = run(*FAKE, "benchmark=[latency,extractive_qa]", *quick, "shards=2")
    assert done.returncode == 0, done.stderr
    record = record_of(tmp_path / "runs")
    entries = {entry["benchmark"]: entry for entry in record["benchmarks"]}
    assert len(entries["latency"]["samples"]["ttft_s"]) == 2
    end_of_shards = max(shard["finished_at"] for shard in record["shards"]["shards"])
    assert entries["latency"]["ended_at"] - entries["latency"]["duration_s"] >= end_of_shards
    assert entries["extractive_qa"]["duration_s"] is None  # that of merging says nothing
    assert entries["extractive_qa"]["figures"]["cached_responses"] == 0


@pytest.mark.skipif(len(topology(os.sched_getaffinity(0)).cores) < 2, reason="needs two cores")
def test_each_shard_runs_on_cores_of_its_own(run: Run, tmp_path: Path) -> None:
    """The system states the CPUs of each process, which the engine notes."""
    engine = "runtime.engine.target=tests.experiments.injected_engines:Stating"
    done = run(*FAKE, "benchmark=[extractive_qa]", engine, "shards=2", "hw.devices=2")
    assert done.returncode == 0, done.stderr
    expected = core_groups(2, topology(os.sched_getaffinity(0)))
    assert not set(expected[0]) & set(expected[1])
    shards = record_of(tmp_path / "runs")["shards"]["shards"]
    assert [(shard["cores"], shard["threads"]) for shard in shards] == [(list(group), 1) for group in expected]
    for index, group in enumerate(expected):
        (journal,) = (tmp_path / "runs").glob(f"shards/*/{index}-of-2/journal.jsonl")
        (load,) = (event for event in read_journal(journal) if event["event"] == "load")
        stated = dict(note.split(":") for note in load["notes"])
        assert cpu_list(stated["Cpus_allowed_list"]) == group
        assert int(stated["threads"]) == 1


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["hw.devices=2"], "hw.devices=2 binds each shard to one device, and shards=1: set shards=2 or more"),
        (["shards=2", "hw.devices=3"], "hw.devices=3 binds each shard to one device, and shards=2: set shards=3"),
        (["shards=5", "hw.devices=5", "hw.device=cpu"], "hw.devices=5 needs as many cores; this process may use"),
        (["shards=0"], "shards must be at least 1; found 0"),
        (["shards=2", "shard=2"], "shard=2 is not one of shards=2, which count from 0: give 0 to 1"),
        (["shard=0"], "add shards=N"),
        (["shards=2", "benchmark=[latency]", "limit=null"], "latency is timed and never sharded: leave out shards=2"),
        (["shards=7"], "shards=7 are more than the 6 items of multiple_choice: use at most that many"),
        (["shards=2", "batch=auto"], "batch=auto would give each of shards=2"),
        (["shards=2", "responses.mode=use"], "responses.mode=use would be ignored"),
    ],
)
def test_mistakes_are_one_line(run: Run, overrides: list[str], says: str) -> None:
    done = run(*FAKE, *overrides)
    assert done.returncode == 2, done.stdout
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_two_processes_never_compute_one_shard(tmp_path: Path) -> None:
    with only_process(tmp_path / "0-of-2"):
        program = (
            "import sys\nfrom pathlib import Path\n"
            "from runtime_matrix.experiments.sweeps.shards import only_process\n"
            "with only_process(Path(sys.argv[1])): pass\n"
        )
        words = [sys.executable, "-c", program, str(tmp_path / "0-of-2")]
        other = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "is computed by another process" in other.stderr
    with only_process(tmp_path / "0-of-2"):
        pass
    with pytest.raises(UserError), only_process(tmp_path / "a"), only_process(tmp_path / "a"):
        pass
