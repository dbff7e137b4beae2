"""The content-addressed cache of what is expensive to build: graphs, engines, quantized weights.

An entry is a folder named by the digest of what it was made from. It appears whole or not at all; one whose files no
longer have the sizes and digests that it was stored with is built again.
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
_READ_WHOLE_BYTES = 2**28  # a tenth of a second
_END_BYTES = 2**20
# By this process; `build_s`: what making the entries took, those that were found included.
tally: dict[str, float] = {"built": 0, "found": 0, "build_s": 0.0}
on_build: Callable[[str], None] | None = None  # told what is about to be built, which may take minutes


@dataclass(frozen=True)
class Entry:
    """What lies in the cache under one key; `made_from` is the key."""

    folder: Path
    kind: str
    size_bytes: int
    used_at: float  # seconds since the epoch
    made_from: ReadOnlyJson


def entry(root: Path, kind: str, made_from: ReadOnlyJson, build: Callable[[Path], None]) -> Path:
    """Return the folder of the entry, calling `build(folder)` only when it is absent or damaged.

    Two processes that want the same entry build it once. `made_from` must be JSON; it is kept in the manifest.
    """
    text = json.dumps(made_from, sort_keys=True)
    folder = root / kind / hashlib.sha256(text.encode()).hexdigest()[:24]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_whole(folder):
            tally["found"] += 1
            tally["build_s"] += _build_s(folder)
            os.utime(folder / _MANIFEST)  # when it was used last
        else:
            tally["built"] += 1
            if on_build is not None:
                on_build(kind)
            _build(folder, made_from, build)
            tally["build_s"] += _build_s(folder)
    return folder


def entries(root: Path) -> list[Entry]:
    """Return what is kept, the least recently used first; a folder without a readable manifest is left out."""
    found = []
    for manifest in root.glob(f"*/*/{_MANIFEST}"):
        try:
            made_from = json.loads(manifest.read_text(encoding="utf-8"))["made_from"]
            size = sum(path.stat().st_size for path in manifest.parent.rglob("*") if path.is_file())
            found.append(Entry(manifest.parent, manifest.parents[1].name, size, manifest.stat().st_mtime, made_from))
        except (OSError, ValueError, KeyError):
            continue
    return sorted(found, key=lambda one: one.used_at)


def prune(root: Path, most_bytes: int) -> list[Entry]:
    """Remove the least recently used entries until the rest takes `most_bytes`; return what was removed.

    An entry that another process is building or looking up is left alone.
    """
    kept = entries(root)
    total, removed = sum(one.size_bytes for one in kept), []
    for one in kept:
        if total <= most_bytes:
            break
        with open(one.folder.with_suffix(".lock"), "w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            shutil.rmtree(one.folder, ignore_errors=True)
        total -= one.size_bytes
        removed.append(one)
    return removed


def is_whole(folder: Path) -> bool:
    """Say whether every file of the entry is as it was stored."""
    try:
        files = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["files"]
        return all(_fingerprint(folder / name) == stored for name, stored in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _build(folder: Path, made_from: ReadOnlyJson, build: Callable[[Path], None]) -> None:
    for left in folder.parent.glob(f"{folder.name}.*"):  # of a process that was killed: its lock is ours now
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
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
    """Return what making the entry took; 0 for one of an earlier version, which did not say."""
    return float(json.loads((folder / _MANIFEST).read_text(encoding="utf-8")).get("build_s", 0.0))


def _fingerprint(path: Path) -> list[int | str]:
    """Return size and digest; of a file too large to read at every start, the digest of its two ends."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        if size <= _READ_WHOLE_BYTES:
            return [size, hashlib.file_digest(file, "sha256").hexdigest()]
        digest = hashlib.sha256(file.read(_END_BYTES))
        file.seek(-_END_BYTES, os.SEEK_END)
        digest.update(file.read())
        return [size, digest.hexdigest()]
