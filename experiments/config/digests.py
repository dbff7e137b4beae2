"""Digests of files, cached by path, size and modification time in the file digests.json of a folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def digest_of(files: Sequence[Path], cache: Path | None) -> str:
    """Return a digest of files, by their names and contents."""
    contents = content_digests(sorted(files), cache)
    parts = [f"{file.name}:{content}" for file, content in zip(sorted(files), contents, strict=True)]
    return short("\n".join(parts))


def short(text: str) -> str:
    """Return 32 hex digits that identify a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def content_digests(files: Sequence[Path], cache: Path | None) -> list[str]:
    """Return the SHA-256 digest of each file's content."""
    digests = _cached_digests(cache)
    before, keys = dict(digests), []
    for file in files:
        stat = file.stat()
        keys.append(f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}")
        if keys[-1] not in digests:
            with open(file, "rb") as stream:
                digests[keys[-1]] = hashlib.file_digest(stream, "sha256").hexdigest()
    if cache is not None and digests != before:
        _store_digests(cache, digests)
    return [digests[key] for key in keys]


def _cached_digests(cache: Path | None) -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError):
        if cache is not None:
            content = json.loads((cache / "digests.json").read_text(encoding="utf-8"))
            return content if isinstance(content, dict) else {}
    return {}


def _store_digests(cache: Path, digests: Mapping[str, str]) -> None:
    with contextlib.suppress(OSError):  # then the files are hashed again next time
        cache.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=cache)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(dict(digests), file)
        os.replace(temporary, cache / "digests.json")
