"""How requests become batches: sorted by length, under a token budget, padded to what a runtime declares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from runtime_matrix.runtimes.base import Traits


def batches(
    lengths: Sequence[int],
    traits: Traits,
    token_budget: int,
    sort: bool = True,
    held: int = 0,
    cache_budget: int | None = None,
    packed: bool = False,
) -> list[list[int]]:
    """Return batches of indices; rows × padded length of each is within the budget (a single row always goes).

    `packed`: padding costs nothing, and the sum of the lengths is what counts. Rows that each hold `held` tokens before
    are so many that these and the new ones are within the cache's budget. The longest come first, so that a machine too
    small for them says so at once.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)) if sort else list(range(len(lengths)))
    result: list[list[int]] = []
    widest = tokens = 0
    for index in order:
        width = max(widest, traits.buckets.pad_tokens(lengths[index]))
        rows = len(result[-1]) + 1 if result else 1
        is_full = held > 0 and cache_budget is not None and rows * (held + width) > cache_budget
        cost = tokens + lengths[index] if packed else rows * width
        if not result or is_full or cost > token_budget or rows > (traits.max_batch or rows):
            result.append([])
            tokens = 0
            width = traits.buckets.pad_tokens(lengths[index])
        result[-1].append(index)
        widest = width
        tokens += lengths[index]
    return result


def split(batch: Sequence[int], widths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Cut a batch of indices so that rows × largest width of a part is at most `most` (a single row always goes)."""
    part: list[int] = []
    for index in batch:
        if part and (len(part) + 1) * max(widths[one] for one in [*part, index]) > most:
            yield part
            part = []
        part.append(index)
    yield part


def pad(rows: Sequence[Sequence[int]], traits: Traits) -> tuple[torch.Tensor, list[int]]:
    """Return (B, T) ids and B lengths, padded on the right, and below by rows of one token, up to the buckets."""
    tokens = traits.buckets.pad_tokens(max(len(row) for row in rows))
    padded = traits.buckets.pad_batch(len(rows))
    ids_BT = torch.zeros(padded, tokens, dtype=torch.long)
    for index, row in enumerate(rows):
        ids_BT[index, : len(row)] = torch.tensor(row)
    return ids_BT, [len(row) for row in rows] + [1] * (padded - len(rows))


def pad_positions(positions: Sequence[Sequence[int]], rows: int) -> torch.Tensor:
    """Return (B, K): each row's positions, short rows repeating their last one, missing rows zero."""
    wanted = max(len(row) for row in positions)
    at_BK = torch.zeros(rows, wanted, dtype=torch.long)
    for index, row in enumerate(positions):
        at_BK[index] = torch.tensor([*row, *[row[-1]] * (wanted - len(row))])
    return at_BK
