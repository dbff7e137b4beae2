"""Each runtime that cheats while it is timed is detected, and no honest runtime beside it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime_matrix.experiments.analysis.audit import audit, problem
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

HONEST = ("eager", "onnxruntime")
STATUSES = {
    **dict.fromkeys(HONEST),
    **dict.fromkeys(("Garbage", "Defeat", "EarlyEnd", "Constant", "EightBits", "ThreeBits"), WRONG_OUTPUT),
    **dict.fromkeys(("Memo", "KnownPrefix", "MoreThreads", "HalfThreads", "Helper"), INVALID_TIMING),
    **dict.fromkeys(("Between", "Lazy", "AfterTheLast", "Orphan"), INVALID_TIMING),
    "Late": None,  # slower, and no cheat
}
QUICK = ("eager", "Garbage", "KnownPrefix", "Helper", "Late")


def _cell(results: Path, *words: str) -> Cell:
    shape = ["rounds=4", "launches=2", "warmup=1", "batched=4", "extra_rounds=2", "one_thread_rounds=3"]
    given = ["benchmark=[latency]", "progress=false", f"results_dir={results}", *words]
    _, (cell,) = cells(read_arguments([*given, *(f"comparison.{word}" for word in shape)]), "eager", "test")
    return cell


@pytest.fixture(
    scope="module", params=[QUICK, pytest.param(tuple(STATUSES), marks=pytest.mark.slow)], ids=["few", "all"]
)
def compared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Speed]:
    """Return what was stored of each runtime, by its name."""
    results = tmp_path_factory.mktemp("cheats")

    def runner(name: str, *words: str) -> Runner:
        folder = results / name
        folder.mkdir()
        write_record(folder, make_record(name, status="error"))
        return Runner(_cell(results, *words), folder)

    def words(name: str) -> Sequence[str]:
        target = f"runtime.engine.target=tests.experiments.cheats:{name}"
        return [f"runtime={name}"] if name in HONEST else ["runtime=custom", target]

    reference = runner("reference", "runtime=eager")
    runners = [runner(name, *words(name)) for name in request.param]
    compare_speed(reference, runners, reference.cell.config.comparison, Clock.WALL, fork=True)
    stored = {runner.folder.name: read_speed(runner.folder) for runner in runners}
    return {name: speed for name, speed in stored.items() if speed is not None}


def test_each_cheat_is_detected_and_no_honest_runtime(compared: dict[str, Speed]) -> None:
    honest = {name: speed for name, speed in compared.items() if name in HONEST}
    assert {(speed.reason, len(speed.launches)) for speed in honest.values()} == {(None, 2)}
    problems = {name: problem(audit(make_record(name), speed)) for name, speed in compared.items()}
    statuses = {name: None if found is None else found.status for name, found in problems.items()}
    assert statuses == {name: STATUSES[name] for name in statuses}, problems
    assert set(QUICK) <= set(statuses)


def test_a_late_slowdown_is_within_the_timed_lengths(compared: dict[str, Speed]) -> None:
    found = ratio(compared["Late"].launches, "decode", Clock.WALL)
    assert found is not None
    assert found.estimate < 0.93  # 0.6 where nothing else runs
