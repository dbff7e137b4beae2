"""The README's commands are ones that the program takes."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from experiments.cells.plan import plan
from experiments.compose import compose

ROOT = Path(__file__).parents[1]
COMMANDS = [
    line.split("#")[0].strip()
    for line in (ROOT / "README.md").read_text().splitlines()
    if line.startswith("    python -m experiments.run")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_is_planned(command: str, tiny_model: Path, tmp_path: Path) -> None:
    if "OWNER/NAME" in command:
        pytest.skip("needs a hub; tests/experiments/test_run.py has one")
    bundled = ROOT / "experiments" / "bundled"
    places = {"benchmark.perplexity.data=FILE": f"benchmark.perplexity.data={bundled / 'data' / 'perplexity.txt'}"}
    places |= {"model.path=DIR": f"model.path={tiny_model}"}
    places |= {
        "benchmark.multiple_choice.data=DIR": f"benchmark.multiple_choice.data={bundled / 'data/multiple_choice'}"
    }
    words = [places.get(word, word) for word in shlex.split(command)[3:] if word != "-m"]
    for runtime in ("eager", "compile", "onnxruntime"):
        single = [f"runtime={runtime}" if word.startswith("runtime=") else word for word in words]
        cell = plan(compose([*single, f"artifacts_dir={tmp_path}"]), command)
        assert cell.config.benchmark.chosen()
