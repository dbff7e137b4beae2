"""Says in one line which extra brings a package that is missing."""

from __future__ import annotations

import importlib.util

from runtimes.base import Unsupported


def require(module: str, extra: str) -> None:
    """Raise Unsupported unless the module can be found."""
    if importlib.util.find_spec(module) is None:
        raise Unsupported(f"{module} is not installed: pip install 'runtime-matrix[{extra}]'")
