"""Are a runtime's logits numbers to decide by? Which are lawful, what is an error, and which decisions are ties.

Minus infinity is lawful where another entry of the row is finite: a model with a padded vocabulary masks the rest of
it. Errors are NaN or plus infinity anywhere, and a row in which every entry is minus infinity. The maximum of a row
shows all three, since torch returns NaN for a row that has one. A scored token must have a finite log-probability.

Shapes: V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch


def read_highest(logits: torch.Tensor) -> tuple[list[Any], list[Any]]:
    """Return each row's highest logit and its token, nested as the rows (…, V) are.

    Both come to the host in one transfer: each one waits for all that the device was given to do.
    """
    highest, tokens = torch.stack([part.double() for part in logits.max(dim=-1)]).cpu()  # ids are exact in float64
    return highest.tolist(), tokens.long().tolist()


def check_highest(highest: torch.Tensor, where: str) -> None:
    """Raise FloatingPointError unless each row's highest logit is finite. `where` says what was asked."""
    if not bool(highest.isfinite().all()):
        check_numbers(highest.flatten().tolist(), where)


def check_numbers(values: Iterable[float], where: str) -> None:
    """Raise FloatingPointError for the first value that is not finite."""
    for value in values:
        if not math.isfinite(value):
            raise FloatingPointError(f"the runtime's logits are not finite ({_name(value)}) at {where}")


def tied(logits: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
    """Say of each row (…, V) whether its highest logit is there more than once: argmax then takes the first."""
    return (logits == highest[..., None]).sum(dim=-1) > 1


def _name(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{'+' if value > 0 else '-'}inf"
