"""An exporter of another package: installed beside this one, it is chosen and configured as those of this project."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.installing import Python, install, python_with

SMALL = ("runtime=fake", "model=random", "benchmark=[memory]", "agreement.enabled=false", "comparison.enabled=false")
BROKEN = "the exporter broken of the package broken-exporter cannot be loaded: RuntimeError: no licence"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Python:
    """Return `python -m …` where two packages are installed: one that adds an exporter, one that cannot be imported."""
    site = install(tmp_path_factory.mktemp("packages"), "exporter")
    (site / "broken_exporter.py").write_text("raise RuntimeError('no\\nlicence')\n")
    facts = site / "broken_exporter-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-exporter\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[runtime_matrix.exporters]\nbroken = broken_exporter:Broken\n")
    return python_with(site)


@pytest.mark.slow
def test_a_record_reaches_the_exporter_of_another_package(program: Python, tmp_path: Path) -> None:
    file = tmp_path / "cells.txt"
    where = [f"results_dir={tmp_path / 'runs'}", f"monitoring.lines_file={file}"]
    done = program("experiments.run", *SMALL, "monitoring=[prometheus,lines]", *where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert file.read_text() == "fake ok\n"
    assert done.stderr.count(BROKEN) == 1


def test_an_exporter_that_cannot_be_loaded_is_reported_if_chosen(program: Python, tmp_path: Path) -> None:
    options = tmp_path / "options" / "monitoring"
    options.mkdir(parents=True)
    (options / "broken.yaml").write_text("# @package monitoring\nbroken_url: null\n")
    done = program("experiments.run", "--config-dir", str(options.parent), *SMALL, "monitoring=[broken]")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: monitoring.broken_url is not a known key; ")
    assert done.stderr.endswith(f"; {BROKEN}\n")
    assert done.stderr.count("\n") == 1


def test_help_explains_its_keys(program: Python) -> None:
    done = program("experiments.run", "--help", "monitoring=[prometheus,lines]")
    assert "\n  monitoring: lines, mlflow, prometheus\n" in done.stdout
    _, _, values = done.stdout.partition("\nmonitoring: # ")
    assert "\n  prometheus_port: null # serve /metrics on the loopback interface" in values
    assert "\n  lines_file: null # a text file that gets one line per cell\n" in values
    assert "mlflow:" not in values
