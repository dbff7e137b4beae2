"""A cell's journal: one fsynced JSON line per event, so a killed process loses at most one line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from msgspec import UNSET, Struct
from msgspec.structs import asdict

from runtime_matrix.experiments.config.plain_json import JsonObject


class Journal:
    """Appends events to a file."""

    def __init__(self, path: Path):
        self._path = path

    def write(self, event: str, content: Struct | None = None, **fields: Any) -> None:
        """Append one event with the fields of `content` and `fields`.

        Raises TypeError for a value that JSON cannot represent, and OSError if the file cannot be written.
        """
        line = json.dumps(
            plain({"event": event, **(asdict(content) if content is not None else {}), **fields}), allow_nan=False
        )
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode() + b"\n")
            os.fsync(descriptor)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        finally:
            os.close(descriptor)


def read_journal(path: Path) -> list[JsonObject]:
    """Return the complete events, without a last line torn by a crash; empty if the file is missing."""
    if not path.exists():
        return []
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return [event for event in events if isinstance(event, dict) and "event" in event]


def not_a_number(value: Any, name: str = "") -> str | None:
    """Return the dotted name of the first NaN or infinite figure, which `plain` would turn into null; else None."""
    if isinstance(value, Mapping):
        parts = [(f"{name}.{key}".lstrip("."), element) for key, element in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"{name}.{index}", element) for index, element in enumerate(value)]
    else:
        number = value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
        return name if isinstance(number, float) and not math.isfinite(number) else None
    return next((nested for part, element in parts if (nested := not_a_number(element, part))), None)


def plain(value: Any) -> Any:
    """Return the value as JSON types: arrays and tensors as numbers and lists, NaN and infinity as None."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Struct):
        return {name: plain(field) for name, field in asdict(value).items() if field is not UNSET}
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(field) for name, field in vars(value).items()}
    if isinstance(value, Mapping):
        return {str(key): plain(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [plain(element) for element in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"a record cannot hold {type(value).__name__}: {value!r}")
