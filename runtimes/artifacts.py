"""A content-addressed cache of artifacts that are expensive to build: graphs, engines, quantized weights.

An entry is a folder named by the digest of its key. It is created atomically. An entry is rebuilt if the size or digest
of one of its files has changed since it was stored.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.runtimes.base import ReadOnlyJson

_MANIFEST = "manifest.json"
_READ_WHOLE_BYTES = 2**28  # hashing this much takes a tenth of a second
_END_BYTES = 2**20
# Counts of this process. `build_s` is the build time of all its entries in seconds, cached entries included.
tally: dict[str, float] = {"built": 0, "found": 0, "build_s": 0.0}
on_build: Callable[[str], None] | None = None  # called with the kind before a build, which may take minutes


@dataclass(frozen=True)
class Entry:
    """A cached artifact; `made_from` is its key."""

    folder: Path
    kind: str
    size_bytes: int
    used_at: float  # last use, in seconds since the epoch
    made_from: ReadOnlyJson


def place(root: Path, kind: str, made_from: ReadOnlyJson) -> Path:
    """Return the folder of the entry with the key `made_from`, whether or not it exists."""
    key = json.dumps(made_from, sort_keys=True)
    return root / kind / hashlib.sha256(key.encode()).hexdigest()[:24]


def has(root: Path, kind: str, made_from: ReadOnlyJson) -> bool:
    """Return whether the entry was stored; its files are not read."""
    return (place(root, kind, made_from) / _MANIFEST).exists()


def entry(root: Path, kind: str, made_from: ReadOnlyJson, build: Callable[[Path], None]) -> Path:
    """Return the folder of the entry with the key `made_from`; build it if it is absent or damaged.

    `build(folder)` writes the files of the entry into an empty folder. A file lock ensures that concurrent processes
    build an entry only once. `made_from` must be JSON; it is stored in the manifest.
    """
    folder = place(root, kind, made_from)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_whole(folder):
            tally["found"] += 1
            tally["build_s"] += _build_s(folder)
            os.utime(folder / _MANIFEST)  # its modification time is the entry's time of last use
        else:
            tally["built"] += 1
            if on_build is not None:
                on_build(kind)
            _build(folder, made_from, build)
            tally["build_s"] += _build_s(folder)
    return folder


def entries(root: Path) -> list[Entry]:
    """Return the entries, least recently used first; folders without a readable manifest are skipped."""
    readable = []
    for manifest in root.glob(f"*/*/{_MANIFEST}"):
        try:
            made_from = json.loads(manifest.read_text(encoding="utf-8"))["made_from"]
            size = sum(path.stat().st_size for path in manifest.parent.rglob("*") if path.is_file())
            readable.append(Entry(manifest.parent, manifest.parents[1].name, size, manifest.stat().st_mtime, made_from))
        except (OSError, ValueError, KeyError):
            continue
    return sorted(readable, key=lambda artifact: artifact.used_at)


def prune(root: Path, most_bytes: int) -> list[Entry]:
    """Remove the least recently used entries until the rest takes at most `most_bytes`; return the removed entries.

    Entries that another process is building or looking up are skipped.
    """
    oldest_first = entries(root)
    total, removed = sum(artifact.size_bytes for artifact in oldest_first), []
    for artifact in oldest_first:
        if total <= most_bytes:
            break
        with open(artifact.folder.with_suffix(".lock"), "w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            shutil.rmtree(artifact.folder, ignore_errors=True)
        total -= artifact.size_bytes
        removed.append(artifact)
    return removed


def is_whole(folder: Path) -> bool:
    """Return whether every file of the entry still has its stored fingerprint."""
    try:
        files = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["files"]
        return all(_fingerprint(folder / name) == stored for name, stored in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _build(folder: Path, made_from: ReadOnlyJson, build: Callable[[Path], None]) -> None:
    # We hold the lock, so any scratch folder of this entry was left by a process that was killed.
    for leftover in folder.parent.glob(f"{folder.name}.*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    start_s = time.monotonic()
    try:
        build(scratch)
        build_s = round(time.monotonic() - start_s, 3)
        names = sorted(str(path.relative_to(scratch)) for path in scratch.rglob("*") if path.is_file())
        files = {name: _fingerprint(scratch / name) for name in names}
        (scratch / _MANIFEST).write_text(
            json.dumps({"made_from": made_from, "build_s": build_s, "files": files}, indent=1)
        )
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _build_s(folder: Path) -> float:
    """Return the build time of the entry in seconds; 0 for entries of earlier versions, which did not store it."""
    return float(json.loads((folder / _MANIFEST).read_text(encoding="utf-8")).get("build_s", 0.0))


def _fingerprint(path: Path) -> list[int | str]:
    """Return the size in bytes and the SHA-256 digest of a file.

    Only the first and last `_END_BYTES` of a large file are hashed, because reading all of it at every start is slow.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        if size <= _READ_WHOLE_BYTES:
            return [size, hashlib.file_digest(file, "sha256").hexdigest()]
        digest = hashlib.sha256(file.read(_END_BYTES))
        file.seek(-_END_BYTES, os.SEEK_END)
        digest.update(file.read())
        return [size, digest.hexdigest()]
