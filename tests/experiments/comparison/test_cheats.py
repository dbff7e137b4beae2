"""Runtimes that cheat where they are timed, alive together with honest ones: each is found, and no honest one is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.arguments import read_arguments
from runtime_matrix.experiments.cells.plan import Cell
from runtime_matrix.experiments.comparison.speed import compare_speed
from runtime_matrix.experiments.comparison.workers import Runner
from runtime_matrix.experiments.pairing import cells
from runtime_matrix.experiments.records.speed import Clock, ratio
from runtime_matrix.experiments.records.timed_work import INVALID_TIMING, WRONG_OUTPUT, problem

pytestmark = pytest.mark.alone

CHEATS = ("Garbage", "Defeat", "Memo", "Between", "Lazy", "EarlyEnd", "Late")
HONEST = ("eager", "onnxruntime")


def _cell(results: Path, *words: str) -> Cell:
    shape = ["rounds=4", "launches=2", "warmup=1", "batched=null", "one_thread_rounds=3"]
    given = ["benchmark=[latency]", "progress=false", f"results_dir={results}", *words]
    _, (cell,) = cells(read_arguments([*given, *(f"comparison.{word}" for word in shape)]), "eager", "test")
    return cell


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return what was stored of each runtime, by its name."""
    results = tmp_path_factory.mktemp("cheats")

    def runner(name: str, *words: str) -> Runner:
        folder = results / name
        folder.mkdir()
        (folder / "record.json").write_text(json.dumps({"load": None, "benchmarks": []}))
        return Runner(_cell(results, *words), folder)

    reference = runner("reference", "runtime=eager")
    runners = [runner(name, f"runtime={name}") for name in HONEST]
    target = "runtime.engine.target=tests.experiments.cheats:"
    runners += [runner(name, "runtime=custom", f"{target}{name}") for name in CHEATS]
    compare_speed(reference, runners, reference.cell.config.comparison, Clock.WALL, fork=True)
    return {one.folder.name: json.loads((one.folder / "speed.json").read_text()) for one in runners}


@pytest.mark.parametrize("name", HONEST)
def test_honest_runtimes_have_no_problem(compared: dict[str, dict[str, Any]], name: str) -> None:
    assert compared[name]["reason"] is None
    assert len(compared[name]["launches"]) == 2
    assert problem(compared[name], {}) is None


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("Garbage", WRONG_OUTPUT),
        ("Defeat", WRONG_OUTPUT),
        ("EarlyEnd", WRONG_OUTPUT),
        ("Memo", INVALID_TIMING),
        ("Between", INVALID_TIMING),
        ("Lazy", INVALID_TIMING),
    ],
)
def test_each_cheat_is_found(compared: dict[str, dict[str, Any]], name: str, status: str) -> None:
    found = problem(compared[name], {})
    assert found is not None, compared[name]
    assert found.status == status, found


def test_a_late_slowdown_is_within_the_timed_lengths(compared: dict[str, dict[str, Any]]) -> None:
    found = ratio(compared["Late"]["launches"], "decode", Clock.WALL)
    assert found is not None
    assert found.estimate < 0.93  # 0.6 where nothing else runs
