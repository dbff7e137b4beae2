"""Statistics and gates serve projects that have no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.experiments.answers import written

_CODE = """
import importlib, pkgutil, sys
for name in ("torch", "transformers", "onnxruntime"):
    sys.modules[name] = None
import runtime_matrix.experiments as experiments
for package in ("statistics", "programs", "answers", "gates"):
    module = importlib.import_module(f"{experiments.__name__}.{package}")
    for info in pkgutil.walk_packages(module.__path__, f"{module.__name__}."):
        if not info.name.endswith("programs.launcher"):
            importlib.import_module(info.name)
from runtime_matrix import gate_answers, gate_command
answers = gate_answers(sys.argv[1], sys.argv[1], margin=0.1)
command = gate_command("true", ["true"], metrics=["memory"], tail=False)
print(answers.verdict, command.findings[0].name, len(command.measurements[0]) >= 6)
"""


def test_gates_work_without_torch(tmp_path: Path) -> None:
    folder = written.lm_eval(tmp_path, {"arc": [1.0, 0.0] * 40})
    done = subprocess.run([sys.executable, "-c", _CODE, str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "pass memory True\n"), done.stderr
