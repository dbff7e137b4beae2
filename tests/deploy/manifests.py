"""The files of `deploy/` as tests read them, and the checkers of others that are run on them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from runtime_matrix.experiments import serve
from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.cells.overrides import expand
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.serving.options import PREFIX, ServeConfig, read_options
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
KUSTOMIZATIONS = sorted((DEPLOY / "kubernetes").rglob("kustomization.yaml"))
MANIFESTS = sorted(set((DEPLOY / "kubernetes").rglob("*.yaml")) - set(KUSTOMIZATIONS))


def checked(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a checker of this environment and return how it ended."""
    command = [str(Path(sys.executable).parent / program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def resources(kind: str) -> dict[str, Any]:
    """Return the resources of a kind by name."""
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in MANIFESTS]
    found = {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}
    assert found
    return found


def pod(resource: dict[str, Any]) -> dict[str, Any]:
    """Return the specification of the pods of a Job or Deployment."""
    specification: dict[str, Any] = resource["spec"]["template"]["spec"]
    return specification


def container(resource: dict[str, Any]) -> dict[str, Any]:
    """Return the only container of its pods."""
    (only,) = pod(resource)["containers"]
    assert isinstance(only, dict)
    return only


def value_of(words: Sequence[str], key: str) -> str | None:
    """Return the value of an override; None if it is not there."""
    return dict(word.partition("=")[::2] for word in words).get(key)


def cells(words: Sequence[str], folder: Path) -> list[Cell]:
    """Plan the cells of `run`, with all output in a folder; UserError for a mistake."""
    assert words[0] == "run"
    own = [word for word in words[1:] if not word.startswith(("results_dir=", "artifacts_dir="))]
    return [plan(compose([*job, f"results_dir={folder}"]), "a test") for job in expand(own)]


def served(words: Sequence[str], folder: Path) -> ServeConfig:
    """Return the options of `serve` after its cell was planned; UserError for a mistake."""
    assert words[0] == serve.__name__.rpartition(".")[2]
    options = [word for word in words[1:] if word.startswith(PREFIX)]
    rest = [word for word in words[1:] if word not in options and not word.startswith("results_dir=")]
    assert cells(["run", *rest], folder)
    return read_options(options)


def instructions(name: str) -> Iterator[str]:
    """Yield what stands after an instruction of the Dockerfile, with its continued lines in one."""
    for line in DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if match := re.fullmatch(rf"{name} (.+)", line):
            yield match[1]
