"""Imports packages, and says in one line which extra brings one that is missing."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from contextlib import suppress

from runtime_matrix.runtimes.base import Unsupported


def require(module: str, extra: str) -> None:
    """Raise Unsupported unless the module can be found."""
    if importlib.util.find_spec(module) is None:
        raise Unsupported(f"{module} is not installed: pip install 'runtime-matrix[{extra}]'")


def import_all(modules: Iterable[str]) -> None:
    """Import what is there, ahead of its use; what is missing or broken is said where it is used."""
    for module in modules:
        with suppress(Exception):
            importlib.import_module(module)
