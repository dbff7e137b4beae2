"""What the flags of gates share: the exit codes and the types of their values."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping

from runtime_matrix.experiments.statistics.sequential import Verdict

EXIT: Mapping[Verdict, int] = {"pass": 0, "fail": 1, "inconclusive": 3}


def share(text: str) -> float:
    """Return a share that is written 0.02 or 2%."""
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a share, as in 0.02 or 2%; found {text}") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a share, as in 0.02 or 2%; found {text}")
    return value


def margin(text: str) -> float:
    """Return a margin that is written 1pt or 0.01."""
    number = text.removesuffix("pt")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise argparse.ArgumentTypeError(f"must be percentage points or a number, as in 1pt or 0.01; found {text}")
    return value / 100 if text.endswith("pt") else value


def whole_number(text: str, least: int) -> int:
    """Return a whole number of at least `least`."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}; found {text}")
    return int(text)
