"""Shards that are killed or told to end go on from what they have kept: nothing that was answered is computed again."""

from __future__ import annotations

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

from runtime_matrix.experiments.records.journal import read_journal
from tests.conftest import ROOT
from tests.experiments.sweeps.test_shards import FAKE, figure, items_of, record_of

pytestmark = pytest.mark.slow
SLOW = (*FAKE, "benchmark=[multiple_choice]", "limit=8", "runtime.engine.token_s=0.04", "scoring.batch=false")
FEW = 3  # answers of a shard, after which it is ended
LIMIT_S = 120.0


def command(folder: Path, *words: str) -> list[str]:
    places = [f"results_dir={folder / 'runs'}", f"artifacts_dir={folder / 'artifacts'}", "progress=false"]
    return [sys.executable, "-m", "experiments.run", *SLOW, *places, *words]


def finished(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(folder, *words), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def unsharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    finished(folder)
    return folder / "runs"


@pytest.fixture
def begun(tmp_path: Path) -> subprocess.Popen[bytes]:
    """Return a command both of whose shards have kept a few answers, and not all of their 16."""
    process = subprocess.Popen(command(tmp_path, "shards=2"), cwd=ROOT, start_new_session=True)
    wait_until(lambda: min(answers(tmp_path), default=0) >= FEW, process)
    return process


def wait_until(is_true: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not is_true():
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def answers(folder: Path) -> list[int]:
    """Return how many answers each shard has kept."""
    counts = []
    for index in range(2):
        files = list(folder.glob(f"runs/shards/*/{index}-of-2/kept.sqlite"))
        try:
            with sqlite3.connect(f"file:{files[0]}?mode=ro", uri=True) as database:
                counts.append(int(database.execute("SELECT count(*) FROM answers").fetchone()[0]))
        except (IndexError, sqlite3.OperationalError):  # not made yet
            counts.append(0)
    return counts


def process_of(folder: Path, index: int) -> int:
    """Return the process of a shard: the leader of a session that has its log open."""
    (log,) = folder.glob(f"runs/shards/*/{index}-of-2/output.log")
    for number in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            files = [os.readlink(path) for path in Path(f"/proc/{number}/fd").iterdir()]
            if str(log.resolve()) in files and os.getsid(number) == number:
                return number
        except OSError:  # it has ended, or is another user's
            continue
    raise AssertionError(f"no process writes {log}")


def shards_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    shards: list[dict[str, Any]] = record["shards"]["shards"]
    return shards


def test_a_killed_shard_is_tried_again_from_what_it_kept(
    begun: subprocess.Popen[bytes], tmp_path: Path, unsharded: Path
) -> None:
    os.kill(process_of(tmp_path, 1), signal.SIGKILL)
    kept = answers(tmp_path)[1]
    assert begun.wait(LIMIT_S) == 0
    record = record_of(tmp_path / "runs")
    assert items_of(tmp_path / "runs") == items_of(unsharded)
    assert [shard["tries"] for shard in shards_of(record)] == [1, 2]
    assert kept <= figure(record, "multiple_choice", "cached_responses") < 16
    assert record["shards"]["notes"] == []
    (journal,) = (tmp_path / "runs").glob("shards/*/1-of-2/journal.jsonl")
    ends = [event for event in read_journal(journal) if event["event"] == "attempt_ended"]
    assert [end["status"] for end in ends] == ["crash", "ok"]
    assert all(end["cpu_s"] > 0 for end in ends)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_run_that_ends_goes_on_from_what_its_shards_kept(
    number: signal.Signals, code: int, begun: subprocess.Popen[bytes], tmp_path: Path, unsharded: Path
) -> None:
    begun.send_signal(number)
    assert begun.wait(LIMIT_S) == code
    time.sleep(4.0 if number == signal.SIGKILL else 0.0)  # until the guard has ended the shards
    kept = answers(tmp_path)
    assert min(kept) >= FEW
    assert sum(kept) < 32
    finished(tmp_path, "shards=2", "resume=true")
    record = record_of(tmp_path / "runs")
    assert items_of(tmp_path / "runs") == items_of(unsharded)
    assert figure(record, "multiple_choice", "cached_responses") == sum(kept)
    assert record["shards"]["notes"] == ["2 of 2 shards were interrupted and continued"]
    assert [shard["tries"] for shard in shards_of(record)] == [2, 2]
    assert [shard["is_continued"] for shard in shards_of(record)] == [True, True]


def test_without_resume_the_shards_of_an_earlier_run_are_forgotten(
    begun: subprocess.Popen[bytes], tmp_path: Path, unsharded: Path
) -> None:
    begun.send_signal(signal.SIGTERM)
    assert begun.wait(LIMIT_S) == 143
    finished(tmp_path, "shards=2")
    record = record_of(tmp_path / "runs")
    assert items_of(tmp_path / "runs") == items_of(unsharded)
    assert figure(record, "multiple_choice", "cached_responses") == 0
    assert [shard["tries"] for shard in shards_of(record)] == [1, 1]
