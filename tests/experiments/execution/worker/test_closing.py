"""What a run loads it closes, in each process of a cell: measuring, draft, reference, replay and comparison."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.experiments.test_run import Run, records

SOURCE = """
import os
from runtime_matrix.runtimes.engines.fake import Fake

class Counted(Fake):
    is_loaded = False

    def _note(self, what):
        with open(EVENTS, "a") as file:
            file.write(f"{os.getpid()} {id(self)} {what}\\n")

    def load(self, *given):
        self._note("load")
        self.is_loaded = True
        return super().load(*given)

    def close(self):
        if self.is_loaded:
            self._note("close")
        self.is_loaded = False
"""
BROKEN = """
class Broken(Counted):
    def load(self, *given):
        super().load(*given)
        raise EOFError
"""
COUNTED = (
    "runtime=fake",
    "runtime@reference=fake",
    *(f"{part}.engine.target=counted:Counted" for part in ("runtime", "reference")),
    *(f"{part}.engine.vocabulary=2048" for part in ("runtime", "reference")),
)
QUICK = (
    "benchmark.latency.iterations=2",
    "comparison.launches=1",
    "responses.mode=never",
)


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file in which each load and each close is a line: process, runtime, which of the two."""
    path = tmp_path / "events"
    (tmp_path / "counted.py").write_text(f"EVENTS = {str(path)!r}\n{SOURCE}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "counted", raising=False)
    return path


def by_runtime(events: Path) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for line in events.read_text().splitlines():
        process, runtime, what = line.split()
        found.setdefault((process, runtime), []).append(what)
    return found


def test_all_that_a_cell_loads_is_closed(run: Run, events: Path, tmp_path: Path) -> None:
    draft = ("generation.speculate=draft", "generation.draft_model=bundled")
    done = run(*COUNTED, *QUICK, *draft, "benchmark=[latency,extractive_qa]", "benchmark.extractive_qa.limit=2")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = records(tmp_path)
    assert record["replay"] is not None
    found = by_runtime(events)
    assert list(found.values()) == [["load", "close"]] * len(found)
    per_process = Counter(process for process, _ in found)
    assert sorted(per_process.values()) == [1, 1, 2]  # reference and replay; measuring, which loads a draft too


@pytest.mark.slow
def test_all_that_a_comparison_loads_is_closed(run: Run, events: Path, tmp_path: Path) -> None:
    alone = ("benchmark=[latency]", "agreement.enabled=false", "runtime.engine.token_s=0.0,0.001")
    done = run("-m", *COUNTED, *QUICK, *alone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.rglob("speed.json"))
    found = by_runtime(events)
    assert list(found.values()) == [["load", "close"]] * len(found)
    assert len(found) >= 4  # each of two cells is measured, and compared in a process of its own


@pytest.mark.slow
def test_a_runtime_that_fails_to_load_is_closed(run: Run, events: Path, tmp_path: Path) -> None:
    with (tmp_path / "counted.py").open("a") as file:
        file.write(BROKEN)
    broken = [word.replace(":Counted", ":Broken") if word.startswith("runtime.") else word for word in COUNTED]
    done = run(*broken, *QUICK, "benchmark=[latency]", "agreement.enabled=false")
    assert done.returncode == 1, done.stdout + done.stderr
    assert list(by_runtime(events).values()) == [["load", "close"]]
