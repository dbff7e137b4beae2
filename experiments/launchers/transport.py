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
PARENT, THREADS = "RUNTIME_MATRIX_PARENT", "RUNTIME_MATRIX_THREADS"  # variables of the process of a unit
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


def compute_here(content: Parcel, token: str, scratch: Path, threads: int) -> bytes:
    """Compute the unit in `scratch`, an empty folder, and return what it wrote as a tar archive."""
    results = scratch / "results"
    folder = results / "units" / content.name
    folder.mkdir(parents=True)
    _unpack(content.inputs, results)
    given = _versions(results)
    order = {**content.order, "results": str(results)}
    (folder / ORDER_FILE).write_text(json.dumps(order), encoding="utf-8")
    run_unit(folder, token, threads)
    written = [file for file, version in _versions(results).items() if given.get(file) != version]
    return _pack(results, [file for file in written if not _stays(file, results)])


def run_unit(folder: Path, token: str, threads: int) -> int:
    """Run the process of a unit and return its exit code. It ends with this process, also if that is killed.

    `threads` are those of a cell that does not choose its own.
    """
    command = [sys.executable, "-m", MODULE, str(folder), token]
    own = {PARENT: str(os.getpid()), THREADS: str(threads)}
    process = subprocess.Popen(command, env={**os.environ, **own})
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # Ray's way to cancel what has not started; what has is ended by killing this process


def deliver(archive: bytes, results: Path) -> None:
    """Unpack what a unit wrote, unless it has an outcome; the outcome is last, because it counts once it is there."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = sorted(tar.getmembers(), key=_is_outcome)
        if members and _is_outcome(members[-1]) and not (results / members[-1].name).exists():
            for member in members:
                tar.extract(member, results, filter="data")


def _is_outcome(member: tarfile.TarInfo) -> bool:
    return Path(member.name).name.startswith(_OUTCOMES)


def _stays(file: Path, results: Path) -> bool:
    parts = file.relative_to(results).parts
    return parts[0] == _ARTIFACTS or parts[-1] == ORDER_FILE


def _versions(folder: Path) -> dict[Path, tuple[int, int]]:
    return {file: (file.stat().st_size, file.stat().st_mtime_ns) for file in _files(folder)}


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
