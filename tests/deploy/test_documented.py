"""The commands of `docs/deploy.md`: their files, resources and overrides exist."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.deploy.manifests import COMPOSE, KUSTOMIZATIONS, cells, container, instructions, resources
from tests.documentation import commands

IMAGE = COMPOSE["services"]["merge"]["image"]


@pytest.mark.parametrize("command", [*commands("docker "), *commands("kubectl ")])
def test_files_and_resources_exist(command: str) -> None:
    words = shlex.split(command)
    if words[:2] == ["kubectl", "create"]:
        (server,) = resources("Deployment").values()
        (variable,) = container(server)["env"]
        assert variable["valueFrom"]["secretKeyRef"] == {"name": words[4], "key": "key"}
        return
    named = {word.removeprefix("job/") for word in words} & set(resources("Job"))
    files = [ROOT / word for word in words if word.startswith("deploy/")]
    assert all(path.is_file() or path / "kustomization.yaml" in KUSTOMIZATIONS for path in files)
    assert files or named or IMAGE in words
    if words[:2] == ["docker", "compose"]:
        assert words[-1] in COMPOSE["services"]


@pytest.mark.parametrize("command", commands("docker run "))
def test_what_the_image_is_told_is_planned(command: str, tmp_path: Path) -> None:
    words = shlex.split(command)
    at = words.index(IMAGE)
    assert words[words.index("--volume") + 1].partition(":")[2] == next(instructions("VOLUME"))
    assert cells([word for word in words[at + 1 :] if word != "-m"], tmp_path)
