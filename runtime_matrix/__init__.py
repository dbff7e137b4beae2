"""Runtime Matrix: measure how a language model should run.

    from runtime_matrix import load, measure, read_matrix

The one import package of what is installed. In a checkout its parts are links to the folders beside it, so that no
module has two names: `python -m experiments.run` imports `runtime_matrix.experiments`, as `runtime-matrix run` does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime_matrix.experiments.api.matrix import Matrix, read_matrix
    from runtime_matrix.experiments.api.measuring import measure
    from runtime_matrix.experiments.api.model import Model, load
    from runtime_matrix.experiments.config.errors import UserError
    from runtime_matrix.experiments.gates.functions import RunOptions, gate_answers, gate_command
    from runtime_matrix.experiments.records.row import Row
    from runtime_matrix.runtimes.base import Unsupported

_PLACES = {
    "Matrix": "experiments.api.matrix",
    "Model": "experiments.api.model",
    "Row": "experiments.records.row",
    "RunOptions": "experiments.gates.functions",
    "Unsupported": "runtimes.base",
    "UserError": "experiments.config.errors",
    "gate_answers": "experiments.gates.functions",
    "gate_command": "experiments.gates.functions",
    "load": "experiments.api.model",
    "measure": "experiments.api.measuring",
    "read_matrix": "experiments.api.matrix",
}
__all__ = [
    "Matrix",
    "Model",
    "Row",
    "RunOptions",
    "Unsupported",
    "UserError",
    "gate_answers",
    "gate_command",
    "load",
    "measure",
    "read_matrix",
]


def __getattr__(name: str) -> object:
    """Import what is asked for: `load` brings torch, and the commands start without it."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
