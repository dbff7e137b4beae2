"""What the layers in `pyproject.toml` cannot say: where imports stand, and that commands start without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from runtime_matrix.experiments.__main__ import COMMANDS
from tests.conftest import ROOT

# Where our own modules are imported within functions: what imports torch or lm-eval, in files that every command
# reads, and the entries of processes. The completion of the command line imports a command when it is asked for one.
LAZY = {
    "experiments/__main__.py",
    "experiments/serve.py",
    "experiments/tasks/agreement.py",
    "experiments/tasks/divergence.py",
    "experiments/tasks/adapter.py",
    "experiments/tasks/lm_eval.py",
    "experiments/validation/tasks/ablation.py",
    "experiments/validation/tasks/detection_techniques.py",
    "experiments/validation/tasks/execution.py",
    "experiments/validation/tasks/http_ablation.py",
    "experiments/validation/tasks/judge_switches.py",
    "experiments/validation/tasks/long_sequences.py",
    "experiments/validation/tasks/shard_scaling.py",
    "experiments/validation/tasks/switched.py",
    "experiments/execution/worker/jobs.py",
    "experiments/timing/worker.py",
}


def of_functions(path: Path) -> list[str]:
    """Return our modules that a file imports elsewhere than at its top."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            top |= {id(inner) for inner in node.body}
    return [
        module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and id(node) not in top
        and (module := node.module or "").startswith("runtime_matrix")
    ]


def test_our_modules_are_imported_at_the_top_of_files() -> None:
    found = {str(path.relative_to(ROOT)) for path in (ROOT / "experiments").rglob("*.py") if of_functions(path)}
    assert found == LAZY


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_imported_without_torch(command: str) -> None:
    code = f"import sys, runtime_matrix.experiments.{command}; print({{'torch', 'transformers'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "set()\n"
