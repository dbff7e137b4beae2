"""Carry a unit to a machine that does not see the shared folder, and what it wrote back.

`unit.json` names the folder of all output (`results`) and what the unit reads of it (`inputs`, relative paths).
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.launchers.launcher import MODULE

ORDER_FILE = "unit.json"
_ARTIFACTS = "artifacts"  # stay where they were built
_OUTCOMES = "outcome-"


@dataclass(frozen=True)
class Parcel:
    """A unit with what it reads."""

    name: str  # of the unit's folder
    order: JsonObject
    inputs: bytes  # a tar archive, relative to the folder of all output


def parcel(folder: Path) -> Parcel:
    """Return the unit of a folder with its inputs."""
    order = json.loads((folder / ORDER_FILE).read_text(encoding="utf-8"))
    results = Path(order["results"])
    files = [file for name in order["inputs"] for file in _files(results / name)]
    return Parcel(folder.name, order, _pack(results, files))


def is_here(folder: Path, token: str) -> bool:
    """Return whether this machine sees the unit's folder, and not another one of the same name."""
    try:
        return bool(json.loads((folder / ORDER_FILE).read_text(encoding="utf-8"))["token"] == token)
    except (OSError, ValueError, KeyError):
        return False


def compute_here(content: Parcel, token: str, scratch: Path) -> bytes:
    """Compute the unit in `scratch`, an empty folder, and return what it wrote as a tar archive."""
    results = scratch / "results"
    folder = results / "units" / content.name
    folder.mkdir(parents=True)
    _unpack(content.inputs, results)
    given = set(_files(results))
    order = {**content.order, "results": str(results)}
    (folder / ORDER_FILE).write_text(json.dumps(order), encoding="utf-8")
    run_unit(folder, token)
    written = [file for file in _files(results) if file not in given and file != folder / ORDER_FILE]
    return _pack(results, [file for file in written if file.relative_to(results).parts[0] != _ARTIFACTS])


def run_unit(folder: Path, token: str) -> int:
    """Run the process of a unit and return its exit code. It ends with this process, also if that is killed."""
    command = [sys.executable, "-m", MODULE, str(folder), token]
    process = subprocess.Popen(command, env={**os.environ, "RUNTIME_MATRIX_PARENT": str(os.getpid())})
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # Ray's way to cancel what has not started; what has is ended by killing this process


def deliver(archive: bytes, results: Path) -> None:
    """Unpack what a unit wrote; its outcome last, because that counts once it is there."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = tar.getmembers()
        members.sort(key=lambda member: Path(member.name).name.startswith(_OUTCOMES))
        for member in members:
            if not (results / member.name).exists():
                tar.extract(member, results, filter="data")


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _pack(root: Path, files: Iterable[Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for file in files:
            tar.add(file, str(file.relative_to(root)), recursive=False)
    return buffer.getvalue()


def _unpack(archive: bytes, root: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(root, filter="data")
