"""The command that searches, as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.search import main
from runtime_matrix.experiments.sweeps.sweep import Outcome
from tests.experiments.recorded import launches, make_record, result
from tests.in_process import call

SPACE = (
    *(
        "runtime=fake",
        "runtime@reference=fake",
        "model=random",
        "benchmark=[latency,memory]",
        "agreement.enabled=false",
    ),
    *("benchmark.latency.prompt_tokens=8", "benchmark.latency.new_tokens=4", "benchmark.latency.iterations=2"),
    *("comparison.launches=2", "comparison.rounds=2", "comparison.prompt_tokens=8", "comparison.new_tokens=4"),
    *("comparison.one_thread_rounds=0", "comparison.warmup=1", "comparison.batched=null"),
    "runtime.engine.token_s=0.001,0.1",
)


@pytest.mark.slow
@pytest.mark.alone
def test_a_search_ends_with_a_winner_and_continues_from_its_records(tmp_path: Path, artifacts: Path) -> None:
    words = [*SPACE, f"artifacts_dir={artifacts}", f"results_dir={tmp_path}"]
    done = call(main, ["constraint.memory_gib=100", *words])
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / "search.json").read_text())
    assert content["winner"] in ("reference runtime=fake", "runtime.engine.token_s=0.001")
    assert "runtime.engine.token_s=0.1" in content["levels"][-1]["dropped"]
    assert content["cpu_s"] > 1
    assert content["command"] in done.stdout
    again = call(main, ["constraint.memory_gib=1e-6", *words])  # other constraints, the same trials
    assert again.returncode == 3, again.stdout + again.stderr
    assert "recorded earlier" in again.stderr
    assert "the smallest relaxation: constraint.memory_gib=" in again.stdout
    assert len(list(tmp_path.glob("*/record.json"))) == 3


def test_sweeps_of_a_search_end_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[int] = []

    def scripted(cells: Sequence[Cell]) -> Outcome:
        assert cells[0].is_reference
        assert all(cell.config.resume for cell in cells)
        swept.append(len(cells))
        names = [str(cell.config.runtime.engine["token_s"]) for cell in cells]
        records = [make_record(name, is_reference=index == 0) for index, name in enumerate(names)]
        results = [result(records[0]), *(result(one, launches(0.002 / float(one.runtime.name))) for one in records[1:])]
        return Outcome(records, results, True)

    monkeypatch.setattr("runtime_matrix.experiments.search.sweep", scripted)
    done = call(main, [*SPACE, "comparison.launches=4", f"results_dir={tmp_path}"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert swept == [3, 2]  # 0.1 s per token is dropped
    assert json.loads((tmp_path / "search.json").read_text())["winner"] == "runtime.engine.token_s=0.001"
    assert "run runtime.engine.token_s=0.001: best latency" in done.stdout


def test_a_mistake_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    done = call(main, ["goal=speed", f"results_dir={tmp_path}"])
    assert done.returncode == 2
    assert done.stderr.startswith("error: goal=speed is none of")
    assert not list(tmp_path.iterdir())
