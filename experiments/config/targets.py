"""Which class a `target` names: MODULE:CLASS of anybody's, or of ours with or without `runtime_matrix.` before it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

NO_OPTIONS = frozenset(("name", "target", "named_bits"))  # keys of a part that its constructor does not get
_PACKAGE = "runtime_matrix"
_FOLDER = Path(__file__).parents[2]


def module_of(target: str) -> str:
    """Return the full name of a target's module; nothing is imported."""
    module = target.partition(":")[0]
    path = _FOLDER.joinpath(*module.split("."))
    is_ours = module != "" and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())
    return f"{_PACKAGE}.{module}" if is_ours else module


def full_name(target: str) -> str:
    """Return MODULE:CLASS under the one name that a class of ours has."""
    return f"{module_of(target)}:{target.partition(':')[2]}"


def load_class(target: str) -> Any:
    return getattr(importlib.import_module(module_of(target)), target.partition(":")[2])
