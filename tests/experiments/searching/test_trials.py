from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from msgspec import structs

from runtime_matrix.experiments.advice.choose import Constraints
from runtime_matrix.experiments.records.comparison import ProcessCpu, Result
from runtime_matrix.experiments.searching.policy import best
from runtime_matrix.experiments.searching.report import SEARCH_FILE, result_lines, write_search
from runtime_matrix.experiments.searching.request import Level, Space
from runtime_matrix.experiments.searching.trials import cpu_s, search
from tests.experiments.recorded import launches, make_record, result

SPEEDS = {"eager": 1.0, "slow": 0.5, "fast": 2.0, "huge": 4.0}
PEAKS = {"huge": 4096.0}
LEVELS = [Level(25, 2), Level(None, None)]


def _candidate(name: str) -> Any:
    return SimpleNamespace(name=name, words=(f"runtime={name}",), cell=lambda level: (name, level))


SPACE = Space(_candidate("eager"), tuple(_candidate(name) for name in ("slow", "fast", "huge")))


class _Sweeps:
    """Stands for sweeps: each cell has its scripted speed and peak."""

    def __init__(self, most: int = 100):
        self.cells: list[list[str]] = []
        self._most = most

    def __call__(self, cells: Sequence[Any]) -> tuple[Sequence[Result], bool]:
        names = [name for name, _ in cells]
        self.cells.append(names)
        if len(self.cells) > self._most:
            return [_result(name) for name in names[:1]], False
        return [_result(name) for name in names], True


def _result(name: str) -> Result:
    record = make_record(name, peak_mib=PEAKS.get(name, 60.0))
    return result(record, None if name == "eager" else launches(SPEEDS[name], 2))


def test_what_is_worse_or_breaks_a_constraint_is_not_measured_again() -> None:
    sweeps, said = _Sweeps(), list[str]()
    found = search(SPACE, LEVELS, Constraints("latency", max_memory_gib=1.0), sweeps, said.append)
    assert sweeps.cells == [["eager", "slow", "fast", "huge"], ["eager", "fast"]]
    winner = best(found.finalists)
    assert winner is not None
    assert winner.name == "fast"
    assert said[0] == "level 1 of 2: 4 candidates, 25 items of each benchmark, 2 launches"
    assert "  dropped slow: worse than fast" in said
    assert any(line.startswith("  dropped huge: memory 4") for line in said)


def test_without_constraints_the_fastest_wins(tmp_path: Path) -> None:
    request = Constraints("latency")
    found = search(SPACE, LEVELS, request, _Sweeps(), lambda line: None)
    lines = result_lines(SPACE, found, request)
    assert any(line.startswith("run huge: best latency") for line in lines)
    assert any(line.endswith("runtime=huge") for line in lines)
    write_search(SPACE, found, request, tmp_path)
    content = json.loads((tmp_path / SEARCH_FILE).read_text())
    assert (content["winner"], content["levels"][0]["dropped"].keys()) == ("huge", {"eager", "slow", "fast"})


def test_the_smallest_relaxation_is_named() -> None:
    request = Constraints("latency", max_memory_gib=0.01)
    found = search(SPACE, LEVELS, request, _Sweeps(), lambda line: None)
    assert best(found.finalists) is None
    lines = result_lines(SPACE, found, request)
    assert "no candidate is shown to meet all constraints" in lines
    assert any(line.startswith("the smallest relaxation: constraint.memory_gib=0.0") for line in lines)


def test_an_unfinished_level_has_no_finalists() -> None:
    found = search(SPACE, LEVELS, Constraints("latency"), _Sweeps(most=1), lambda line: None)
    assert not found.is_whole
    assert found.finalists == []


def test_the_references_launch_counts_once() -> None:
    spent = {"check": 1.0, "measure": 2.0}
    results = []
    for name in ("eager", "fast", "slow"):
        one = _result(name)
        record = structs.replace(one.record, jobs_cpu_s=spent)
        found = [
            structs.replace(launch, seed=str(number), process_cpu_s=ProcessCpu(candidate=10.0, reference=100.0))
            for number, launch in enumerate(launches(2.0, 2))
        ]
        results.append(result(record, found))
    assert cpu_s(results) == 3 * 3.0 + 2 * 2 * 10.0 + 2 * 100.0
    assert cpu_s([result(make_record("fast"), launches(2.0, 2))]) is None
