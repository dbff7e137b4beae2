"""Forms batches of requests: sorted by length, within a token budget, padded to the sizes that a runtime declares.

Shapes: B rows, T tokens, K positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

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
    rows_by_length: Mapping[str, int] | None = None,
) -> list[list[int]]:
    """Return batches of indices; rows × padded length of each is within the budget (a single row always fits).

    With `rows_by_length` the rows are limited by the longest row's padded length instead, see `most_rows`.
    With `packed`, padding costs nothing and the sum of the lengths counts. Rows that already hold `held` tokens each
    are limited so that held and new tokens stay within `cache_budget`. The longest rows come first, so that a lack of
    memory shows at once.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)) if sort else list(range(len(lengths)))
    result: list[list[int]] = []
    widest = tokens = 0
    for index in order:
        width = max(widest, traits.buckets.pad_tokens(lengths[index]))
        rows = len(result[-1]) + 1 if result else 1
        is_full = held > 0 and cache_budget is not None and rows * (held + width) > cache_budget
        cost = tokens + lengths[index] if packed else rows * width
        is_over = cost > token_budget if rows_by_length is None else rows > most_rows(width, rows_by_length)
        if not result or is_full or is_over or rows > (traits.max_batch or rows):
            result.append([])
            tokens = 0
            width = traits.buckets.pad_tokens(lengths[index])
        result[-1].append(index)
        widest = width
        tokens += lengths[index]
    return result


def most_rows(tokens: int, rows_by_length: Mapping[str, int]) -> int:
    """Return the rows for the smallest length of the table above `tokens`; 1 from the largest length on."""
    lengths = sorted(map(int, rows_by_length))
    return next((rows_by_length[str(length)] for length in lengths if tokens < length), 1)


def split(batch: Sequence[int], widths: Sequence[int] | Mapping[int, int], most: int) -> Iterator[list[int]]:
    """Split a batch of indices so that rows × largest width of a part is at most `most` (a single row always fits)."""
    part: list[int] = []
    for index in batch:
        if part and (len(part) + 1) * max(widths[member] for member in [*part, index]) > most:
            yield part
            part = []
        part.append(index)
    yield part


def pad(rows: Sequence[Sequence[int]], traits: Traits) -> tuple[torch.Tensor, list[int]]:
    """Return ids (B, T) and B lengths, padded to the buckets: on the right, and with extra rows of one token."""
    tokens = traits.buckets.pad_tokens(max(len(row) for row in rows))
    padded = traits.buckets.pad_batch(len(rows))
    ids_BT = torch.zeros(padded, tokens, dtype=torch.long)
    for index, row in enumerate(rows):
        ids_BT[index, : len(row)] = torch.tensor(row)
    return ids_BT, [len(row) for row in rows] + [1] * (padded - len(rows))


def pad_positions(positions: Sequence[Sequence[int]], rows: int) -> torch.Tensor:
    """Return each row's positions (B, K); short rows repeat their last position, extra rows are zero."""
    columns = max(len(row) for row in positions)
    at_BK = torch.zeros(rows, columns, dtype=torch.long)
    for index, row in enumerate(positions):
        at_BK[index] = torch.tensor([*row, *[row[-1]] * (columns - len(row))])
    return at_BK
