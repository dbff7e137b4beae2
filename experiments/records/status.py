"""How a cell or a shard ended."""

from __future__ import annotations

from typing import Literal

Status = Literal[
    "ok",
    "unsupported",  # by this machine or an installed package
    "out_of_memory",
    "timeout",
    "crash",
    "error",
    "interrupted",
    "wrong output",  # the timed tokens differ from the reference's
    "invalid timing",  # work between the rounds, or a cached prompt
]
