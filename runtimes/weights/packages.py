"""Imports of optional packages, with a one-line error that names the extra to install."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from contextlib import suppress

from runtime_matrix.runtimes.base import Unsupported


def require(module: str, extra: str) -> None:
    """Raise Unsupported if the module is not installed; the message names the extra that installs it."""
    if importlib.util.find_spec(module) is None:
        raise Unsupported(f"{module} is not installed: pip install 'runtime-matrix[{extra}]'")


def import_all(modules: Iterable[str]) -> None:
    """Import the modules ahead of their use. Failures are ignored: the code that uses a module reports them."""
    for module in modules:
        with suppress(Exception):
            importlib.import_module(module)
