"""What every cache checks before it forgets tokens."""

from __future__ import annotations

from collections.abc import Sequence


def check_rewind(held: Sequence[int], wanted: Sequence[int]) -> None:
    """Raise ValueError unless each row, which holds `held[b]` tokens, can be cut to `wanted[b]`."""
    if len(held) != len(wanted) or any(not 0 <= new <= old for new, old in zip(wanted, held, strict=True)):
        raise ValueError(f"cannot rewind rows that hold {list(held)} tokens to {list(wanted)}")
