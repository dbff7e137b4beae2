"""The README's commands are ones that the program takes."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from runtime_matrix.experiments.advise import main as advise
from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.cells.overrides import cells
from runtime_matrix.experiments.config.arguments import read_arguments
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.gates.request import prepare_words
from runtime_matrix.experiments.report import main as report
from tests.experiments.recorded import sweep

ROOT = Path(__file__).parents[1]
DATA = ROOT / "experiments" / "bundled" / "data"
LINES = [line.split("#")[0].strip() for line in (ROOT / "README.md").read_text().splitlines()]
FILES = {"perplexity": "perplexity.txt", "code": "code.jsonl", "multiple_choice": "multiple_choice"}


def commands(name: str) -> list[str]:
    found = [line for line in LINES if line.startswith(f"python -m experiments.{name}")]
    assert found
    return found


@pytest.mark.parametrize("command", commands("run"))
def test_a_command_that_measures_is_planned(command: str, tiny_model: Path, tmp_path: Path) -> None:
    if "OWNER/NAME" in command:
        pytest.skip("needs a hub; tests/experiments/test_run.py has one")
    places = {"model.path=DIR": f"model.path={tiny_model}"}
    for benchmark, file in FILES.items():
        places |= {f"benchmark.{benchmark}.data={one}": f"benchmark.{benchmark}.data={DATA / file}" for one in PLACES}
    words = [places.get(word, word) for word in shlex.split(command)[3:] if word != "-m"]
    for runtime in ("eager", "compile", "onnxruntime"):
        single = [f"runtime={runtime}" if word.startswith("runtime=") else word for word in words]
        cell = plan(compose([*single, f"artifacts_dir={tmp_path}"]), command)
        assert cell.config.benchmark.chosen()


PLACES = ("DIR", "FILE")


@pytest.mark.parametrize("command", commands("gate"))
def test_a_gate_is_planned(command: str, tmp_path: Path) -> None:
    asked = prepare_words([*shlex.split(command)[3:], f"artifacts_dir={tmp_path}"])
    assert asked.candidates
    assert asked.gate.name == "ci"


@pytest.mark.parametrize("command", commands("compare"))
def test_a_comparison_is_planned(command: str, tmp_path: Path) -> None:
    words = shlex.split(command)[3:]
    against = next(word.partition("=")[2] for word in words if word.startswith("against="))
    overrides = [word for word in words if not word.startswith("against=")]
    _, candidates = cells(read_arguments([*overrides, f"artifacts_dir={tmp_path}"]), against, command)
    assert len(candidates) == 1


@pytest.mark.parametrize("command", [*commands("report"), *commands("advise")])
def test_a_command_that_reads_answers(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)
    folder = sweep(tmp_path / "runs")
    places = {"A": str(folder), "B": str(folder), "PAGE.html": str(tmp_path / "page.html")}
    asked = [places.get(word, word) for word in words[3:] if word not in ("--open", "results/amd-epyc-2-cores")]
    main = report if words[2].endswith("report") else advise
    assert main([str(folder), *asked]) == 0
    assert capsys.readouterr().out
