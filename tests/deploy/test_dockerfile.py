"""The Dockerfile: hadolint takes it, and it agrees with what the project says of versions, extras and ports."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from tests.conftest import ROOT
from tests.deploy.manifests import DEPLOY, DOCKERFILE, cells, checked, instructions, served

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ADDED = ("onnx-gpu", "energy", "onnx", "openvino")  # by VARIANT
TAG = f"runtime-matrix:{PROJECT['version']}"


def test_hadolint_finds_nothing() -> None:
    done = checked("hadolint", "--no-color", DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_finds_what_is_not_pinned(tmp_path: Path) -> None:
    loose = tmp_path / "Dockerfile"
    loose.write_text(DOCKERFILE.read_text().replace("torch==2.13.0", "torch"))
    assert "DL3013" in checked("hadolint", loose).stdout


def test_versions_and_extras_are_those_of_the_project() -> None:
    text = DOCKERFILE.read_text()
    (torch,) = set(re.findall(r"torch==\S+", text))
    assert torch in (ROOT / "constraints.txt").read_text().splitlines()
    python = next(value for value in instructions("ARG") if value.startswith("PYTHON=")).removeprefix("PYTHON=")
    assert re.fullmatch(r"3\.11\.\d+-slim-\w+", python), "the tests run with Python 3.11"
    (extras,) = [value.removeprefix("EXTRAS=") for value in instructions("ARG") if value.startswith("EXTRAS=")]
    own = re.findall(r"own=([\w,-]+)", text)
    assert [name for part in own for name in part.split(",")] == list(ADDED)
    assert {*ADDED, *extras.split(",")} <= set(PROJECT["optional-dependencies"])


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    copied = {name for line in instructions("COPY") if "--from" not in line for name in line.split()[:-1]}
    assert {name for name in copied if not (ROOT / name).exists()} == set()
    kept = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert kept == copied
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    links = {path.resolve().name for path in (ROOT / "runtime_matrix").iterdir() if path.is_symlink()}
    assert {*wheel["packages"], *links, PROJECT["readme"], *PROJECT["license-files"]} <= copied


def test_the_commands_are_planned_and_the_health_check_asks_the_server(tmp_path: Path) -> None:
    serve, run = (json.loads(words) for words in instructions("CMD"))
    assert cells(run, tmp_path)
    options = served(serve, tmp_path)
    assert not options.is_local
    assert list(instructions("EXPOSE")) == [str(options.port)]
    (check,) = instructions("HEALTHCHECK")
    assert f"HTTPConnection('127.0.0.1', {options.port}" in check
    assert list(instructions("ENTRYPOINT")) == [json.dumps([PROJECT["name"]])]


def test_every_file_names_the_image_of_this_version() -> None:
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    tags = {tag for path in files for tag in re.findall(r"runtime-matrix:[\d.]+", path.read_text(encoding="utf-8"))}
    assert tags == {TAG}
    new = {tag for path in files for tag in re.findall(r"newTag: ([\d.]+)-", path.read_text(encoding="utf-8"))}
    assert new == {PROJECT["version"]}
