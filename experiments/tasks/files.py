"""Reading of data files: text, JSON lines, gzipped or not. What cannot be read is one line that names file and line."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.errors import UserError


def read_bytes(path: Path, wanted: str) -> bytes:
    """Return the content, unpacked where the name ends in .gz. `wanted` says what to give instead."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is a damaged gzip file: {error}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; give {wanted}") from error


def read_text(path: Path, wanted: str) -> str:
    content = read_bytes(path, wanted)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 at byte {error.start}; convert it") from error


def lines(path: Path, wanted: str) -> io.StringIO:
    """Return the lines as a file has them: no splitlines, which also cuts at U+2028."""
    return io.StringIO(read_text(path, wanted), newline="")


def json_lines(path: Path, wanted: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each object with the place that an error message names."""
    for number, line in enumerate(lines(path, wanted), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            item = json.loads(line)
        except ValueError as error:
            raise UserError(f"{where}: not JSON: {error}") from error
        if not isinstance(item, dict):
            raise UserError(f"{where}: not a JSON object; give {wanted}")
        yield where, item


def text_of(item: Mapping[str, Any], keys: tuple[str, ...], where: str) -> str:
    """Return the text under the first of the keys that is there; sentences in a list are joined by spaces."""
    texts = texts_of(item, keys, where)
    return " ".join(text.strip() for text in texts)


def texts_of(item: Mapping[str, Any], keys: tuple[str, ...], where: str) -> list[str]:
    """Return the text, or the list of texts, under the first of the keys that is there, as a list."""
    for key in keys:
        if key in item:
            value = item[key] if isinstance(item[key], list) else [item[key]]
            if not all(isinstance(text, str) for text in value):
                raise UserError(f"{where}: {key} must be a text or a list of texts")
            if not any(text.strip() for text in value):
                raise UserError(f"{where}: {key} is empty")
            return value
    raise UserError(f"{where}: has none of the fields {', '.join(keys)}; found {', '.join(sorted(item)) or 'nothing'}")


def check_unique(ids: Iterator[str], path: Path) -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise UserError(f"{path}: the id {name!r} occurs twice; ids must be unique")
        seen.add(name)
