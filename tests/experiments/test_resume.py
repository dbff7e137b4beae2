"""A run that is killed loses the batch in flight; what was answered is not asked again, and never times anything."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.sweeps.resume import recorded_cells
from tests.experiments.recorded import make_record, write

ROOT = Path(__file__).parents[2]
ALONE = ["agreement.enabled=false", "progress=false"]
ASKED = ["benchmark=[extractive_qa]", "benchmark.extractive_qa.limit=20", *ALONE]
WORK = [
    "benchmark=[multiple_choice,extractive_qa]",
    "benchmark.extractive_qa.limit=40",
    "benchmark.multiple_choice.limit=160",
    "scoring.token_budget=200",
    *ALONE,
]


def command(folder: Path, *words: str) -> list[str]:
    places = [f"results_dir={folder / 'runs'}", f"artifacts_dir={folder / 'artifacts'}"]
    return [sys.executable, "-m", "experiments.run", *(words or WORK), *places]


def run(folder: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run(command(folder, *words), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    newest = max((folder / "runs").glob("*/record.json"), key=lambda path: path.stat().st_mtime_ns)
    record: dict[str, Any] = json.loads(newest.read_text())
    return record | {"folder": newest.parent}


def items(record: dict[str, Any]) -> list[str]:
    return [(record["folder"] / f"items-{name}.jsonl").read_text() for name in ("multiple_choice", "extractive_qa")]


def figures(record: dict[str, Any], name: str) -> dict[str, Any]:
    (entry,) = [entry for entry in record["benchmarks"] if entry["benchmark"] == name]
    found: dict[str, Any] = entry["figures"]
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("whole"))


@pytest.mark.slow
def test_a_killed_run_continues_after_its_last_batch(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    process = subprocess.Popen(command(tmp_path), cwd=ROOT, start_new_session=True)
    kept = tmp_path / "artifacts" / "responses.sqlite"
    deadline = time.monotonic() + 120
    while answered(kept) < 40:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)  # the cell's process dies with its parent
    process.wait()
    time.sleep(0.5)
    before = answered(kept)
    resumed = run(tmp_path, *WORK, "resume=true")
    cached = sum(figures(resumed, name)["cached_responses"] for name in ("multiple_choice", "extractive_qa"))
    assert cached == before
    assert items(resumed) == items(uninterrupted)
    again = run(tmp_path, *WORK, "responses.mode=use")
    assert again["load"] is None  # all is known: nothing is loaded
    assert items(again) == items(uninterrupted)


def answered(path: Path) -> int:
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            return int(database.execute("SELECT count(*) FROM answers").fetchone()[0])
    except sqlite3.OperationalError:  # not made yet
        return 0


@pytest.mark.slow
def test_cached_responses_are_reused_only_in_mode_use(tmp_path: Path) -> None:
    assert figures(run(tmp_path, *ASKED), "extractive_qa")["cached_responses"] == 0
    assert figures(run(tmp_path, *ASKED), "extractive_qa")["cached_responses"] == 0
    assert figures(run(tmp_path, *ASKED, "responses.mode=use"), "extractive_qa")["cached_responses"] == 20


@pytest.mark.slow
def test_timed_benchmarks_run_although_all_responses_are_cached(tmp_path: Path) -> None:
    words = ["benchmark=[throughput,latency]", "responses.mode=use", "benchmark.throughput.requests=2", *ALONE]
    words += ["benchmark.latency.iterations=2", "benchmark.latency.new_tokens=4"]
    first, second = run(tmp_path, *words), run(tmp_path, *words)
    for record in (first, second):
        assert record["load"] is not None
        assert figures(record, "throughput")["tokens_per_s"] > 0
    assert answered(tmp_path / "artifacts" / "responses.sqlite") == 0


def test_a_cell_that_failed_twice_is_not_tried_again(tmp_path: Path) -> None:
    """So that slices of a sweep come to an end."""
    no_package = replace(make_record("tensorrt", run="a", status="unsupported"), jobs={"check": 0.3})
    no_kernel = make_record("nf4", run="a", status="unsupported")  # learned while it was loaded
    folders = write(tmp_path, [make_record("eager", run="a"), no_kernel, no_package])
    for run_id in ("a", "b"):
        write(
            tmp_path,
            [make_record("gptq", run=run_id, status="crash"), make_record("slow", run=run_id, status="interrupted")],
        )
    write(tmp_path, [make_record("awq", run="a", status="error")])
    assert {record.runtime.name for record in recorded_cells(folders, 2)} == {"eager", "nf4", "gptq"}
    assert {record.runtime.name for record in recorded_cells(folders, 3)} == {"eager", "nf4"}
    write(tmp_path, [make_record("awq", run="b")])  # what was measured once stays measured
    assert recorded_cells(folders, 1)[-1].status != "ok"
    assert [record.status for record in recorded_cells(folders, 1) if record.runtime.name == "awq"] == [
        "ok",
        "error",
    ]


def test_nothing_is_done_for_a_cell_that_cannot_run(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = run("runtime=tensorrt", "model=random", "benchmark=[memory]")
    assert done.returncode == 3
    (journal,) = (tmp_path / "runs").glob("*/journal.jsonl")
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [event["name"] for event in events if event["event"] == "job"] == ["check"]
