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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_MANIFEST = "manifest.json"


def entry(root: Path, kind: str, made_from: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """Return the folder of the entry, calling `build(folder)` only when it is absent or damaged.

    Two processes that want the same entry build it once. `made_from` must be JSON; it is kept in the manifest.
    """
    text = json.dumps(made_from, sort_keys=True)
    folder = root / kind / hashlib.sha256(text.encode()).hexdigest()[:24]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_whole(folder):
            _build(folder, made_from, build)
    return folder


def is_whole(folder: Path) -> bool:
    """Say whether every file of the entry is as it was stored."""
    try:
        files = json.loads((folder / _MANIFEST).read_text())["files"]
        return all(_fingerprint(folder / name) == stored for name, stored in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _build(folder: Path, made_from: Mapping[str, Any], build: Callable[[Path], None]) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        build(scratch)
        names = sorted(str(path.relative_to(scratch)) for path in scratch.rglob("*") if path.is_file())
        files = {name: _fingerprint(scratch / name) for name in names}
        (scratch / _MANIFEST).write_text(json.dumps({"made_from": made_from, "files": files}, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fingerprint(path: Path) -> list[Any]:
    with open(path, "rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]
