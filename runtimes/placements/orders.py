"""What rank 0 orders the other ranks to do: the calls of a runtime that change caches, or compute.

An order carries numbers only: ids, lengths, and the numbers by which ranks know their caches. All ranks perform the
same orders in the same sequence, so their caches hold the same rows.
Shapes: B rows, T new tokens per row, K requested positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from runtime_matrix.runtimes.base import Outputs, Runtime

Caches = dict[int, Any]  # this rank's caches, by number


class NewCache(NamedTuple):
    """`Runtime.new_cache`, whose result is cache `key`."""

    key: int
    rows: int
    capacity: int


class BranchOff(NamedTuple):
    """`Runtime.branch` of the cache `trunk`, whose result is cache `key`."""

    key: int
    trunk: int
    rows: int
    capacity: int


class Select(NamedTuple):
    """`Cache.select` of the cache `source`, whose result is cache `key`."""

    key: int
    source: int
    rows: Sequence[int]


class Rewind(NamedTuple):
    """`Cache.rewind`."""

    key: int
    lengths: Sequence[int]


class Replace(NamedTuple):
    """`Cache.replace` by rows of the cache `source`."""

    key: int
    rows: Sequence[int]
    source: int


class Forward(NamedTuple):
    """`Runtime.forward` for logits; the arrays are on the host."""

    ids_BT: Any  # NumPy arrays, which are pickled ten times as fast as tensors
    lengths: Sequence[int]
    key: int | None
    at_BK: Any


Order = NewCache | BranchOff | Select | Rewind | Replace | Forward


@dataclass(frozen=True)
class Message:
    """One message to a rank: an order, and the caches that are needed no more. No order: the rank ends."""

    order: Order | None
    freed: Sequence[int] = ()


def perform(runtime: Runtime, caches: Caches, order: Order) -> Outputs | None:
    """Perform an order with this rank's part of the runtime; return the outputs of a forward."""
    match order:
        case NewCache(key, rows, capacity):
            caches[key] = runtime.new_cache(rows, capacity)
        case BranchOff(key, trunk, rows, capacity):
            caches[key] = runtime.branch(caches[trunk], rows, capacity)
        case Select(key, source, rows):
            caches[key] = caches[source].select(rows)
        case Rewind(key, lengths):
            caches[key].rewind(lengths)
        case Replace(key, rows, source):
            caches[key].replace(rows, caches[source])
        case Forward(ids_BT, lengths, key, at_BK):
            cache = None if key is None else caches[key]
            return runtime.forward(
                torch.from_numpy(ids_BT), lengths, cache, None if at_BK is None else torch.from_numpy(at_BK)
            )
    return None
