"""Makes a runtime from its configuration; turns what went wrong into a status. For the child process."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.cells.plan import Cell
from experiments.config import RuntimeConfig
from experiments.core.text import Text
from runtimes.base import Runtime, Unsupported

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad allocation", "bad_alloc")


def make_runtime(config: RuntimeConfig) -> Runtime:
    """Return the unloaded runtime that the configuration's `target` names. Unsupported for what it does not take."""
    parts = {} if config.weights["name"] == "full" else {"weights": _made(config.weights, f"weights of {config.name}")}
    made: Runtime = _made(config.engine, f"engine of {config.name}", dtype=config.dtype, **parts)
    return made


def _made(part: Mapping[str, Any], what: str, **more: Any) -> Any:
    options = {key: value for key, value in part.items() if key not in ("name", "target")}
    module, _, name = str(part["target"]).partition(":")
    try:
        return getattr(importlib.import_module(module), name)(**options, **more)
    except TypeError as error:
        raise Unsupported(f"the {what} does not take these options: {error}") from error


def make_text(cell: Cell) -> Text | None:
    """Return the model's tokenizer, or None for a model that has none."""
    folder = cell.source.folder
    if folder is None or not cell.facts.has_tokenizer:
        return None
    return Text(Path(folder), cell.facts.bos_id, cell.facts.max_length)


def classify(error: BaseException) -> tuple[str, str]:
    """Return the status that an exception stands for, and its reason in one line."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, Unsupported):
        return "unsupported", text
    if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _OUT_OF_MEMORY):
        return "out_of_memory", text[:300]
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "interrupted"
    return "error", f"{type(error).__name__}: {text}"[:300]
