"""The keys of a row's figures of the ablation: the factor of a switch by CPU time and by wall time."""

from __future__ import annotations

import re

_PREFIX = "ablation_"
CLOCKS = ("cpu", "wall")


def switch_key(name: str, clock: str) -> str:
    """Return the key of a switch's factor by a clock; its bounds have the suffixes `_low` and `_high`."""
    return f"{_PREFIX}{re.sub(r'[^a-z0-9]+', '_', name.lower())}_{clock}_ratio"
