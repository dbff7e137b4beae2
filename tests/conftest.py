"""What many tests share: real data where it is there, a tiny model folder, and the commands run as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.run import main
from runtime_matrix.experiments.sweeps.one_cell import HardwarePeaks
from tests.in_process import call

ROOT = Path(__file__).parents[1]
os.environ.pop("COLUMNS", None)  # readline sets it for the children of any Python that has imported it


_PEAKS: dict[frozenset[str], dict[Any, Any]] = {}  # what `HardwarePeaks` knows, by the dtypes of the cells


@pytest.fixture(autouse=True)
def hardware_peaks(monkeypatch: pytest.MonkeyPatch) -> dict[frozenset[str], dict[Any, Any]]:
    """Let the sweeps of this process share the hardware peaks, which take seconds of all cores, until cleared."""
    of_one_sweep = HardwarePeaks.__init__

    def shared(self: HardwarePeaks, cells: Sequence[Cell], *others: Any) -> None:
        of_one_sweep(self, cells, *others)
        self._known = _PEAKS.setdefault(frozenset(cell.config.runtime.dtype for cell in cells), {})

    monkeypatch.setattr(HardwarePeaks, "__init__", shared)
    return _PEAKS


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of public data sets, or skip with the reason."""
    folder = Path(os.environ.get("RUNTIME_MATRIX_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no public data at {folder}; set RUNTIME_MATRIX_DATA")
    return folder


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the workers build each artifact once
    folder = base / "artifacts"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a random Llama of two layers, saved as `transformers` saves one."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
    )
    folder = tmp_path_factory.mktemp("tiny")
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture
def run(tmp_path: Path, artifacts: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return `python -m experiments.run …` within this process, writing below `tmp_path`."""

    def run(*overrides: str) -> subprocess.CompletedProcess[str]:
        given = [f"artifacts_dir={artifacts}", f"results_dir={tmp_path / 'runs'}"]
        return call(main, [*overrides, *[word for word in given if word.split("=")[0] not in "".join(overrides)]])

    return run


@pytest.fixture
def fresh_run(tmp_path: Path, artifacts: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return the same in a process of its own, for what is read once: modules, and variables of the environment."""

    def run(*overrides: str) -> subprocess.CompletedProcess[str]:
        places = [f"artifacts_dir={artifacts}", f"results_dir={tmp_path / 'runs'}"]
        command = [sys.executable, "-m", "experiments.run", *overrides, *places]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    return run
