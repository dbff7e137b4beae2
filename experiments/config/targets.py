"""Resolve a `target`, MODULE:CLASS. Modules of this package may omit the prefix `runtime_matrix.`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

NO_OPTIONS = frozenset(
    ("name", "target", "named_bits", "weight_only")
)  # keys of a part that are not passed to its constructor
_PACKAGE = "runtime_matrix"
_FOLDER = Path(__file__).parents[2]


def module_of(target: str) -> str:
    """Return the full name of a target's module without importing it."""
    module = target.partition(":")[0]
    path = _FOLDER.joinpath(*module.split("."))
    is_ours = module != "" and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())
    return f"{_PACKAGE}.{module}" if is_ours else module


def full_name(target: str) -> str:
    """Return MODULE:CLASS with the module's full name, so that equal classes compare equal."""
    return f"{module_of(target)}:{target.partition(':')[2]}"


def load_class(target: str) -> Any:
    """Import and return a target's class; ImportError or AttributeError if there is none."""
    return getattr(importlib.import_module(module_of(target)), target.partition(":")[2])
