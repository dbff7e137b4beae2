"""What importing an engine costs and changes: tried in a process that has imported nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT

ENGINES = ROOT / "runtimes" / "engines"


def printed(code: str) -> str:
    """Return what a new process prints that runs the code."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_scripted_runtime_needs_no_transformers() -> None:
    imported = printed("import sys, runtime_matrix.runtimes.engines.fake; print(*sys.modules)").split()
    assert "torch" in imported
    assert "transformers" not in imported


def test_attentions_are_registered_by_loading_and_not_by_importing() -> None:
    code = (
        "from transformers import AttentionInterface\n"
        "from runtime_matrix.runtimes.engines import attention, compiled, eager, graph_forms\n"
        "names = lambda: [name for name in AttentionInterface._global_mapping if name.startswith('runtime_matrix')]\n"
        "imported = names()\n"
        "for _ in range(2):\n"
        "    attention.register('runtime_matrix_test', attention.attend)\n"
        "print(imported, names())\n"
    )
    assert printed(code) == "[] ['runtime_matrix_test']"


@pytest.mark.parametrize("path", sorted(ENGINES.glob("*.py")), ids=lambda path: path.stem)
def test_no_engine_is_made_of_eager(path: object) -> None:
    source = ENGINES / str(path)
    imported = {node.module for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.ImportFrom)}
    assert "runtime_matrix.runtimes.engines.eager" not in imported
