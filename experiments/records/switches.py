"""The keys of a row's figures of the ablation: the factor of a switch by CPU time, wall time and peak memory."""

from __future__ import annotations

import re

_PREFIX = "ablation_"
CLOCKS = ("cpu", "wall")
MEMORY = "memory"  # of benchmarks that measure it


def switch_key(name: str, clock: str) -> str:
    """Return the key of a switch's factor by a clock, or by memory; its bounds have the suffixes `_low` and `_high`."""
    return f"{_PREFIX}{re.sub(r'[^a-z0-9]+', '_', name.lower())}_{clock}_ratio"
