"""Each runtime that cheats while it is timed is detected, and no honest runtime beside it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime_matrix.experiments.analysis.timed_work import problem
from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.overrides import cells
from runtime_matrix.experiments.config.arguments import read_arguments
from runtime_matrix.experiments.records.comparison import Speed
from runtime_matrix.experiments.records.ratios import Clock, ratio
from runtime_matrix.experiments.records.schema import INVALID_TIMING, WRONG_OUTPUT
from runtime_matrix.experiments.records.store import read_speed, write_record
from runtime_matrix.experiments.timing.interleave import compare_speed
from runtime_matrix.experiments.timing.runner import Runner
from tests.experiments.recorded import make_record

pytestmark = pytest.mark.alone

CHEATS = ("Garbage", "Defeat", "Memo", "Between", "Lazy", "EarlyEnd", "Late")
HONEST = ("eager", "onnxruntime")


def _cell(results: Path, *words: str) -> Cell:
    shape = ["rounds=4", "launches=2", "warmup=1", "batched=null", "one_thread_rounds=3"]
    given = ["benchmark=[latency]", "progress=false", f"results_dir={results}", *words]
    _, (cell,) = cells(read_arguments([*given, *(f"comparison.{word}" for word in shape)]), "eager", "test")
    return cell


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Speed]:
    """Return what was stored of each runtime, by its name."""
    results = tmp_path_factory.mktemp("cheats")

    def runner(name: str, *words: str) -> Runner:
        folder = results / name
        folder.mkdir()
        write_record(folder, make_record(name, status="error"))
        return Runner(_cell(results, *words), folder)

    reference = runner("reference", "runtime=eager")
    runners = [runner(name, f"runtime={name}") for name in HONEST]
    target = "runtime.engine.target=tests.experiments.cheats:"
    runners += [runner(name, "runtime=custom", f"{target}{name}") for name in CHEATS]
    compare_speed(reference, runners, reference.cell.config.comparison, Clock.WALL, fork=True)
    stored = {runner.folder.name: read_speed(runner.folder) for runner in runners}
    return {name: speed for name, speed in stored.items() if speed is not None}


@pytest.mark.parametrize("name", HONEST)
def test_honest_runtimes_have_no_problem(compared: dict[str, Speed], name: str) -> None:
    assert compared[name].reason is None
    assert len(compared[name].launches) == 2
    assert problem(compared[name], None) is None


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
def test_each_cheat_is_detected(compared: dict[str, Speed], name: str, status: str) -> None:
    found = problem(compared[name], None)
    assert found is not None, compared[name]
    assert found.status == status, found


def test_a_late_slowdown_is_within_the_timed_lengths(compared: dict[str, Speed]) -> None:
    found = ratio(compared["Late"].launches, "decode", Clock.WALL)
    assert found is not None
    assert found.estimate < 0.93  # 0.6 where nothing else runs
