"""What tells the code of a cell from other code."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.validate import identity_of
from runtime_matrix.experiments.records import code
from runtime_matrix.experiments.records.code import code_of, declared_texts


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a package of somebody else's, whose engine needs a helper and numpy."""
    folder = tmp_path / "my_engines"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported, and it should only be read')\n")
    (folder / "mine.py").write_text("import json\nfrom .helper import two\nclass Mine:\n    import numpy\n")
    (folder / "helper.py").write_text("two = 2\n")
    (folder / "unused.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_a_changed_helper_changes_the_digest_and_an_unused_file_does_not(package: Path) -> None:
    first = code_of(["my_engines.mine:Mine"])
    (package / "unused.py").write_text("changed = True\n")
    assert code_of(["my_engines.mine:Mine"]) == first
    (package / "helper.py").write_text("two = 3\n")
    assert code_of(["my_engines.mine:Mine"]).digest != first.digest
    assert "my_engines" not in sys.modules


def test_versions_of_imported_packages_are_recorded(package: Path) -> None:
    assert code_of(["my_engines.mine:Mine"]).versions == {"numpy": importlib.metadata.version("numpy")}
    assert code_of([]).versions == {}
    assert "onnxruntime" in code_of(["runtimes.engines.onnxruntime:OnnxRuntime"]).versions


def test_distributions_are_read_from_the_class_and_nothing_is_imported(package: Path) -> None:
    (package / "mine.py").write_text(
        "import torch_of_mine\nclass Other:\n    distributions = ('other',)\n"
        "class Mine:\n    distributions: ClassVar[tuple[str, ...]] = ('one', 'two')\n"
        "class Heir(Mine):\n    pass\nclass Wrong:\n    distributions = ('a' + 'b',)\n"
    )
    assert declared_texts("my_engines.mine:Mine", "distributions") == ("one", "two")
    assert declared_texts("my_engines.mine:Other", "distributions") == ("other",)
    assert declared_texts("my_engines.mine:Heir", "distributions") == ()
    assert declared_texts("no_such_package.x:Y", "distributions") == ()
    with pytest.raises(UserError, match="mine:Wrong: `distributions` must be a tuple of string literals"):
        declared_texts("my_engines.mine:Wrong", "distributions")
    assert "my_engines" not in sys.modules


def test_a_missing_target_is_left_to_its_import() -> None:
    assert code_of(["no_such_package.x:Y", ""]) == code_of([])


def test_options_that_change_figures_are_in_the_identity() -> None:
    config = {
        "seed": 1,
        "results_dir": "x",
        "resume": True,
        "sandbox": {"cpu_s": 5, "workers": 2},
        "comparison": {"launches": 4},
        "benchmark": {"code": {"limit": 3}},
        "unknown": {"to": "this version"},
    }
    assert identity_of(CellConfig, config) == {
        "seed": 1,
        "sandbox": {"cpu_s": 5},
        "benchmark": {"code": {"limit": 3}},
        "unknown": {"to": "this version"},
    }


@pytest.mark.parametrize("module", ["execution.worker.jobs", "timing.worker"])
def test_the_digest_covers_every_package_that_a_measuring_process_imports(module: str) -> None:
    imported = code._sources(f"runtime_matrix.experiments.{module}")
    packages = {path.relative_to(code._ROOT).parts[1] for path in imported if "experiments" in path.parts}
    assert {"evaluation", "execution"} <= packages
    # Options are part of a cell's identity, and a record's form has a version of its own.
    assert packages - {"__init__.py", "config", "records"} <= set(code._PARTS)
