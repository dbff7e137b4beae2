"""An exporter of another package: installed beside this one, it is chosen and configured as those of this project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "tests" / "packages" / "exporter"
SMALL = ("runtime=fake", "model=random", "benchmark=[memory]", "agreement.enabled=false", "comparison.enabled=false")
Run = Callable[..., subprocess.CompletedProcess[str]]
BROKEN = "the exporter broken of the package broken-exporter cannot be loaded: RuntimeError: no licence"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of installed packages: one that adds an exporter, and one whose module cannot be imported."""
    folder = tmp_path_factory.mktemp("packages")
    shutil.copytree(PACKAGE, folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", folder / "site", folder / "source"], check=True)
    (folder / "site" / "broken_exporter.py").write_text("raise RuntimeError('no\\nlicence')\n")
    facts = folder / "site" / "broken_exporter-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-exporter\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[runtime_matrix.exporters]\nbroken = broken_exporter:Broken\n")
    return folder / "site"


@pytest.fixture
def program(packages: Path, tmp_path: Path) -> Run:
    """Return `python -m experiments.run …` where these packages are installed, writing below `tmp_path`."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "experiments.run", *words]
        paths = [str(packages), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return run


def test_a_record_reaches_the_exporter_of_another_package(program: Run, tmp_path: Path) -> None:
    file = tmp_path / "cells.txt"
    where = [f"results_dir={tmp_path / 'runs'}", f"monitoring.lines_file={file}"]
    done = program(*SMALL, "monitoring=[prometheus,lines]", *where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert file.read_text() == "fake ok\n"
    assert done.stderr.count(BROKEN) == 1


def test_the_exporter_that_cannot_be_loaded_is_named_to_who_asks_for_it(program: Run, tmp_path: Path) -> None:
    options = tmp_path / "options" / "monitoring"
    options.mkdir(parents=True)
    (options / "broken.yaml").write_text("# @package monitoring\nbroken_url: null\n")
    done = program("--config-dir", str(options.parent), *SMALL, "monitoring=[broken]")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: monitoring.broken_url is not a known key; ")
    assert done.stderr.endswith(f"; {BROKEN}\n")
    assert done.stderr.count("\n") == 1


def test_help_explains_its_keys(program: Run) -> None:
    done = program("--help", "monitoring=[prometheus,lines]")
    assert "\n  monitoring: lines, mlflow, prometheus\n" in done.stdout
    _, _, values = done.stdout.partition("\nmonitoring: # ")
    assert "\n  prometheus_port: null # /metrics on loopback" in values
    assert "\n  lines_file: null # a text file that gets one line per cell\n" in values
    assert "mlflow:" not in values
