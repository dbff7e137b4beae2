"""A cell that ran out of memory is measured once more with half of each batch, and its row says so.

The fake runtime runs out of memory in batches of more rows than it is told.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.cells.halving import halved
from runtime_matrix.experiments.cells.overrides import cells
from runtime_matrix.experiments.config.arguments import read_arguments
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError

Run = Callable[..., subprocess.CompletedProcess[str]]
SHAPE = ("benchmark.latency.prompt_tokens=[8]", "benchmark.latency.new_tokens=[4]", "benchmark.latency.iterations=2")
FAKE = ("model=random", "benchmark=[latency]", *SHAPE, "runtime=fake", "agreement.enabled=false")
FAULT = ("runtime.engine.fault=out_of_memory", "batch_size=8")


def records(folder: Path) -> list[dict[str, Any]]:
    paths = sorted((folder / "runs").glob("*/record.json"), key=lambda path: path.stat().st_mtime_ns)
    return [json.loads(path.read_text()) for path in paths]


def test_the_second_try_has_half_the_rows_and_says_so(run: Run, tmp_path: Path) -> None:
    words = (*FAKE, *FAULT, "runtime.engine.fault_rows=4")
    done = run(*words, "retry=halve")
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = records(tmp_path)
    assert (first["status"], second["status"]) == ("out_of_memory", "ok")
    assert first["second_try"] is None
    assert second["second_try"]["first"] == first["record_id"]
    assert second["second_try"]["halved"].startswith("batch_size=4 instead of 8, ")
    assert (first["config"]["batch_size"], second["config"]["batch_size"]) == (8, 4)
    assert second["benchmarks"][0]["parameters"]["batch"] == 4
    assert "because the first ran out of memory: batch_size=4 instead of 8" in " ".join(done.stdout.split())
    assert second["command"].endswith(" batch_size=4 scoring.token_budget=2048 generation.token_budget=8192")

    again = run(*words, "retry=halve", "resume=true", "tries=1")
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(records(tmp_path)) == 2  # both are known

    without = run(*words, "resume=true")
    assert without.returncode == 1, without.stdout  # the halved record is not taken for the cell that was asked for
    assert len(records(tmp_path)) == 3


def test_there_is_one_second_try_alone(run: Run, tmp_path: Path) -> None:
    done = run(*FAKE, *FAULT, "runtime.engine.fault_rows=2", "retry=halve")
    assert done.returncode == 1, done.stdout + done.stderr
    assert [record["status"] for record in records(tmp_path)] == ["out_of_memory", "out_of_memory"]


def test_without_the_option_nothing_is_tried_again(run: Run, tmp_path: Path) -> None:
    assert run(*FAKE, *FAULT, "runtime.engine.fault_rows=4").returncode == 1
    assert len(records(tmp_path)) == 1


def test_each_batch_is_halved_and_one_row_stays() -> None:
    words = ("benchmark=[latency,memory]", "benchmark.latency.batch=[1,2,16]", "benchmark.memory.batch=3")
    cell = plan(compose([*words, "generation.token_budget=1", "scoring.token_budget=7"]), "a command")
    found = halved(cell, preferred_tokens=2048)
    assert found is not None
    smaller, text = found
    benchmarks = smaller.config.benchmark.options
    assert benchmarks["latency"].batch == (1, 8)
    assert benchmarks["memory"].batch == 1
    assert (smaller.config.scoring.token_budget, smaller.config.generation.token_budget) == (3, 1)
    assert "'benchmark.latency.batch=[1,8]'" in smaller.command
    assert "benchmark.memory.batch=1 instead of 3" in text
    assert smaller.config_hash != cell.config_hash


def test_batches_of_one_row_cannot_be_halved() -> None:
    words = ("benchmark=[latency]", "batch_size=1", "generation.token_budget=1", "scoring.token_budget=1")
    assert halved(plan(compose(words), "a command"), preferred_tokens=None) is None


def test_commands_that_compare_equal_work_refuse_it() -> None:
    with pytest.raises(UserError, match="retry=halve is for sweeps"):
        cells(read_arguments(["runtime=compile", "retry=halve"]), "eager", "a command")
    with pytest.raises(UserError, match="retry=halve would be ignored: it needs launcher=local"):
        plan(compose(["launcher=slurm", "retry=halve"]), "a command")
    with pytest.raises(UserError, match=r"retry=half is unknown; did you mean 'halve'\?"):
        plan(compose(["retry=half"]), "a command")
