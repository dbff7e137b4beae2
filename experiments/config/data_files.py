"""Reading of data files: text and JSON lines, gzipped or not. Errors are one line with the file and line number."""

from __future__ import annotations

import gzip
import io
import json
import stat
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject


def read_bytes(path: Path, wanted: str) -> bytes:
    """Return the content, decompressed if the name ends in .gz. `wanted` completes the error message: "give …"."""
    check_regular(path, wanted)
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is a damaged gzip file: {error}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; give {wanted}") from error


def check_regular(path: Path, wanted: str) -> None:
    """Raise UserError unless the path is a regular file: reading a pipe blocks, and a device may never end."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read: {why}; give {wanted}") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise UserError(f"{path} is {kind}; give {wanted}")


def parse_json(text: str, where: str) -> Any:
    """Return the JSON value; UserError starts with `where`."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{where}: not JSON: {error}") from error
    except RecursionError as error:
        raise UserError(f"{where}: nested too deeply to be read as JSON") from error


def read_text(path: Path, wanted: str) -> str:
    """Return the UTF-8 text of a file, decompressed if the name ends in .gz; UserError if it cannot be read."""
    content = read_bytes(path, wanted)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 at byte {error.start}; convert it") from error


def lines(path: Path, wanted: str) -> io.StringIO:
    """Return the lines of a file. `str.splitlines` would also split at U+2028."""
    return io.StringIO(read_text(path, wanted), newline="")


def json_lines(path: Path, wanted: str, fields: Mapping[str, str] | None = None) -> Iterator[tuple[str, JsonObject]]:
    """Yield (location, object) for each object of JSON lines or of one JSON array; the location is for messages.

    `fields` maps our field names to the data's.
    """
    return json_items(read_text(path, wanted), str(path), wanted, fields)


def json_items(
    text: str, name: str, wanted: str, fields: Mapping[str, str] | None = None
) -> Iterator[tuple[str, JsonObject]]:
    """Yield what `json_lines` does, of a text; locations start with `name`."""
    if text.lstrip().startswith("["):
        values = parse_json(text, name)
        items = [(f"{name}, item {number}", item) for number, item in enumerate(values, start=1)]
    else:
        rows = enumerate(io.StringIO(text, newline=""), start=1)  # str.splitlines would also split at U+2028
        named = ((f"{name}, line {number}", line) for number, line in rows if line.strip())
        items = ((where, parse_json(line, where)) for where, line in named)  # type: ignore[assignment]
    for where, item in items:
        if not isinstance(item, dict):
            raise UserError(f"{where}: not a JSON object; give {wanted}")
        yield where, renamed(item, fields or {}, where)


def renamed(item: JsonObject, fields: Mapping[str, str], where: str) -> JsonObject:
    """Return the item with the mapped fields added under our names; UserError if one is missing."""
    for ours, given in fields.items():
        if given not in item:
            raise UserError(f"{where}: fields.{ours}={given}: no such field; found {', '.join(map(str, item))}")
        item = {**item, ours: item[given]}
    return item


def text_of(item: JsonObject, keys: tuple[str, ...], where: str) -> str:
    """Return the text under the first key that exists; a list of sentences is joined by spaces."""
    texts = texts_of(item, keys, where)
    return " ".join(text.strip() for text in texts)


def texts_of(item: JsonObject, keys: tuple[str, ...], where: str) -> list[str]:
    """Return the text or texts under the first key that exists, as a list; UserError if none exists or it is empty."""
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
    """Raise UserError if an id occurs twice."""
    seen: dict[str, int] = {}
    for number, name in enumerate(ids, start=1):
        if name in seen:
            raise UserError(
                f"{path}: the id {name!r} occurs twice, as item {seen[name]} and item {number}; remove one of them, "
                "rename it, or leave the ids out"
            )
        seen[name] = number
