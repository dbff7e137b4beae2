from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.problems import loading
from runtime_matrix.experiments.problems.imports import check_imports, third_party
from tests.experiments.test_mistakes import mistake

PROBLEM = {
    "task_id": "t/0",
    "prompt": "def double(x):\n",
    "entry_point": "double",
    "test": "import numpy as np\ndef check(candidate):\n    assert np.allclose(candidate(2), 4)\n",
}


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import math, numpy.linalg as la\nfrom yaml import load\n", ["numpy", "yaml"]),
        ("def check(f):\n    import torch\n", ["torch"]),
        ("from . import x\nimport os.path\nimport re as numpy\n", []),
    ],
)
def test_third_party_imports_of_a_test(code: str, names: list[str]) -> None:
    assert third_party(code) == names


def test_tests_import_only_named_packages(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(PROBLEM))
    loaded = loading.load(path)
    check_imports(path, loaded, ["numpy"])
    with pytest.raises(UserError, match=r"t/0 imports numpy, .* own modules and yaml; set .*packages=\[numpy,yaml\]"):
        check_imports(path, loaded, ["yaml"])


def test_a_package_that_is_not_allowed_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(PROBLEM))
    options = ["benchmark=[code]", f"benchmark.code.data={path}"]
    assert "set sandbox.packages=[numpy]" in mistake(*options)
    assert "'nowhere' is not installed" in mistake(*options, "sandbox.packages=[nowhere,numpy]")
