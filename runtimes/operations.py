"""What a runtime's own profiler reports: the operations of some calls, with their time, sorted into kinds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "products",  # of matrices, those of packed weights included
    "attention",
    "quantization",  # packing and unpacking of weights or activations
    "casts",  # between dtypes
    "copies",
    "compiled",  # kernels that a compiler fused
    "fallback",  # not executed where the runtime was told to
    "elementwise",  # everything else
]


@dataclass(frozen=True)
class Operation:
    """An operation of a profile: its total time without the operations that it called, and how often it ran."""

    kind: Kind
    name: str
    seconds: float
    calls: int


@dataclass(frozen=True)
class Kinds:
    """How the names of a profiler are sorted: the first pattern that is found in a name decides."""

    patterns: Sequence[tuple[Kind, str]]

    def of(self, name: str) -> Kind:
        """Return the kind of an operation."""
        return next((kind for kind, pattern in self.patterns if re.search(pattern, name, re.IGNORECASE)), "elementwise")
