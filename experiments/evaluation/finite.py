"""Checks of a runtime's outputs: which logits are valid, which are errors, and which top tokens are tied.

Minus infinity is valid if another entry of the row is finite: a model with a padded vocabulary masks the padding.
Errors are NaN or plus infinity anywhere, and rows of minus infinity only. The maximum of a row reveals all three,
since torch returns NaN for a row that contains one. A scored token must have a finite log-probability. Other
outputs must be finite.

Shapes: V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch


def read_highest(logits: torch.Tensor) -> tuple[list[Any], list[Any]]:
    """Return each row's highest logit and its token, nested like the rows of `logits` (…, V).

    Both come to the host in one transfer, because each transfer waits for all work of the device.
    """
    highest, tokens = torch.stack([part.double() for part in logits.max(dim=-1)]).cpu()  # ids are exact in float64
    return highest.tolist(), tokens.long().tolist()


def check_highest(highest: torch.Tensor, where: str) -> None:
    """Raise FloatingPointError unless each row's highest logit is finite. `where` ends the message: "… at WHERE"."""
    if not bool(highest.isfinite().all()):
        check_numbers(highest.flatten().tolist(), where)


def check_numbers(values: Iterable[float], where: str, what: str = "logits") -> None:
    """Raise FloatingPointError for the first value that is not finite; `where` as in `check_highest`.

    `what` names the output that the values come from.
    """
    for value in values:
        if not math.isfinite(value):
            raise FloatingPointError(f"the runtime's {what} are not finite ({_name(value)}) at {where}")


def tied(logits: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
    """Return per row of `logits` (…, V) whether its highest logit occurs more than once; argmax takes the first."""
    return (logits == highest[..., None]).sum(dim=-1) > 1


def _name(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{'+' if value > 0 else '-'}inf"
