"""Installs the packages below `tests/packages` beside this one, as a user would, and runs commands with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.conftest import ROOT

PACKAGES = ROOT / "tests" / "packages"
Python = Callable[..., "subprocess.CompletedProcess[str]"]


def install(folder: Path, *names: str) -> Path:
    """Return the folder below `folder` in which the packages lie; their sources are copied first."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    for name in names:
        shutil.copytree(PACKAGES / name, folder / "source" / name)
    sources = [str(folder / "source" / name) for name in names]
    done = subprocess.run(
        [*pip, "--target", str(folder / "site"), *sources], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def python_with(site: Path) -> Python:
    """Return `python -m MODULE …` where the packages of `site` are installed."""
    paths = [str(site), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *words]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return run
