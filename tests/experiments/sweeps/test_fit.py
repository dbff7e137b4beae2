"""A cell that will not fit is said, or refused, before anything of it is loaded."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from runtime_matrix.experiments.records.memory_text import too_large
from runtime_matrix.experiments.records.schema import MemoryEstimate

Run = Callable[..., subprocess.CompletedProcess[str]]
GIB = 2**30
# More than any machine has: it must never be drawn.
HUGE = ("model=random", "model.architecture.hidden_size=131072")


def estimate(low: float, high: float, free: float | None) -> MemoryEstimate:
    peak = (int(low * GIB), int(high * GIB))
    free_bytes = None if free is None else int(free * GIB)
    return MemoryEstimate(peak_bytes=peak, cell_peak_bytes=peak, is_validated=True, free_bytes=free_bytes)


def test_words_follow_the_interval() -> None:
    assert too_large(estimate(2, 3, free=4)) is None
    assert too_large(estimate(2, 3, free=3)) is None
    assert too_large(estimate(2, 3, free=None)) is None
    may = "an estimated 2.0 to 3.0 GiB of memory may not fit: 2.5 GiB are free"
    assert too_large(estimate(2, 3, free=2.5)) == may
    assert too_large(estimate(2, 3, free=1)) == may.replace("may", "will").replace("2.5", "1.0")


def test_a_cell_above_free_memory_is_refused_before_it_is_loaded(run: Run, tmp_path: Path) -> None:
    done = run("runtime=eager", *HUGE, "benchmark=[memory]", "fit=refuse")
    assert done.returncode == 3, done.stdout + done.stderr
    (path,) = (tmp_path / "runs").glob("*/record.json")
    record = json.loads(path.read_text())
    assert record["status"] == "unsupported"
    assert "GiB of memory will not fit" in record["reason"]
    assert "fit=warn" in record["reason"]
    assert record["jobs"].keys() == {"check"}
    low, high = record["memory_estimate"]["peak_bytes"]
    assert low > record["memory_estimate"]["free_bytes"]
    assert high > low


def test_a_small_cell_is_measured_with_its_estimate(run: Run, tmp_path: Path) -> None:
    done = run("runtime=eager", "model=random", "benchmark=[memory]", "agreement.enabled=false", "fit=refuse")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "estimated peak" in done.stdout
    (path,) = (tmp_path / "runs").glob("*/record.json")
    record = json.loads(path.read_text())
    assert record["memory_estimate"]["is_validated"] is False
    assert "fit" not in record["command"] or record["config"]["fit"] == "refuse"
