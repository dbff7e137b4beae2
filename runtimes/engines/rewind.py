"""The check of all caches before a rewind."""

from __future__ import annotations

from collections.abc import Sequence


def check_rewind(held: Sequence[int], wanted: Sequence[int]) -> None:
    """Raise ValueError unless 0 <= `wanted[b]` <= `held[b]` for each row b; both count tokens."""
    if len(held) != len(wanted) or any(not 0 <= new <= old for new, old in zip(wanted, held, strict=True)):
        raise ValueError(f"cannot rewind rows that hold {list(held)} tokens to {list(wanted)}")
