"""What is suggested is a command that the program takes, and not what was measured already."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.advice.choose import GOALS, Wish
from runtime_matrix.experiments.advice.next_steps import next_steps
from runtime_matrix.experiments.cells.plan import plan
from runtime_matrix.experiments.compose import compose
from runtime_matrix.experiments.records.matrix import rows
from runtime_matrix.experiments.records.schema import Row
from runtime_matrix.experiments.report import read
from tests.experiments.recorded import make_record, sweep, write

WISHES = [Wish(goal, min_accuracy=0.99, max_memory_gib=0.01) for goal in GOALS]


@pytest.fixture
def found(tmp_path: Path) -> list[Row]:
    return rows(read(sweep(tmp_path))[0])


def test_every_step_can_be_planned(found: list[Row], tmp_path: Path) -> None:
    suggested = [next_steps(found, wish) for wish in WISHES]
    assert all(suggested)
    cells = {
        cell for steps in suggested for step in steps for cell in single(step.command)
    }  # each once: it takes a while
    for words in cells:
        assert plan(compose([*words, f"artifacts_dir={tmp_path}"]), shlex.join(words)).config.benchmark.chosen()


def single(command: str) -> list[tuple[str, ...]]:
    """Return the overrides of each cell of a command."""
    words = [word for word in shlex.split(command)[3:] if word != "-m"]
    runtimes = next((w.split("=")[1].split(",") for w in words if w.startswith("runtime=")), ["eager"])
    return [tuple(f"runtime={one}" if word.startswith("runtime=") else word for word in words) for one in runtimes]


def test_what_was_tried_is_not_suggested_again_not_even_what_failed(found: list[Row]) -> None:
    said = " ".join(step.command for step in next_steps(found, Wish("memory")))
    assert "nf4" in said
    assert "offload" not in said  # it ran out of memory
    assert "runtime=eager,gptq" not in said


def test_the_tree_asks_first_for_what_stands_in_the_way(tmp_path: Path) -> None:
    write(tmp_path, [make_record("eager", status="out_of_memory", reason="too large")])
    steps = next_steps(rows(read(tmp_path)[0]), Wish("latency"))
    whys = [step.why.split(":")[0] for step in steps]
    assert whys.index("4 bits") < whys.index("shorter sequences") < whys.index("the last layers off the device")
    assert whys.index("the last layers off the device") < whys.index("batching") < whys.index("compiled")


def test_lost_accuracy_asks_for_more_bits(found: list[Row]) -> None:
    said = " ".join(step.command for step in next_steps(found, Wish("latency", min_accuracy=0.99)))
    assert "runtime.weights.bits=8" in said
    assert "runtime.weights.group_size=16" in said


def test_the_model_and_hardware_of_the_cells_stay(tmp_path: Path) -> None:
    command = "python -m experiments.run model=local model.path=DIR hw=cpu seed=1"
    write(tmp_path, [replace(make_record("eager"), command=command)])
    for step in next_steps(rows(read(tmp_path)[0]), Wish("latency")):
        assert step.command.startswith("python -m experiments.run model=local model.path=DIR hw=cpu ")
