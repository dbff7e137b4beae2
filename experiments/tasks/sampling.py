"""Which items of a benchmark are run: a random sample, stratified by subject, and of these a shard's part.

Both are the same for all cells of a sweep.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import least, outside_identity
from runtime_matrix.experiments.tasks.task import QualityTask, Task

SAMPLE_OF = "sample_of"  # parameter of an entry: how many items there were


class Identified(Protocol):
    """An item of a benchmark, whose id no other item has."""

    @property
    def id(self) -> str: ...


Item = TypeVar("Item", bound=Identified)


class EmptyPartError(Exception):
    """A shard has no item of a benchmark."""


@dataclass(frozen=True)
class Part:
    """The items of shard `index`, counted from 0, of `count` shards."""

    index: int
    count: int


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """The options that a benchmark inherits if its items can be drawn; `sample=N seed=S` of the cell sets them.

    Such a benchmark can be sharded, because `sampled` also deals its items to shards.
    """

    sample: int | None = least(1, default=None)  # items; None: all
    sample_seed: int = least(0, identity=False, default=0)  # the cell's seed, which is part of its identity
    part: Part | None = outside_identity(default=None)  # set in the process of a shard only


def sampled(
    items: Sequence[Item], options: SampleOptions, benchmark: str, subject: Callable[[Item], str] | None = None
) -> list[Item]:
    """Return the drawn items in their order; all of them without `sample`, or if there are no more.

    In a shard, only those of its part; EmptyPartError if it has none. Each subject has its proportional share, and at
    least one item if the sample has as many. The draw depends on the benchmark's name, the seed, the ids and the
    subjects: neither on the order nor on the runtime.
    """
    drawn = _drawn(items, options, benchmark, subject)
    return drawn if options.part is None else dealt(drawn, options.part, benchmark)


def dealt(items: Sequence[Item], part: Part, benchmark: str) -> list[Item]:
    """Return the items of a part in their order. Sizes of parts differ by one at most; EmptyPartError for none.

    Which part has an item depends on the benchmark's name and the ids, not on the order of the items.
    """
    ordered = sorted(items, key=lambda item: _rank(f"{benchmark} is dealt", 0, item.id))
    own = {item.id for item in ordered[part.index :: part.count]}
    if not own:
        raise EmptyPartError(f"shard {part.index} of {part.count} has none of the {len(items)} items of {benchmark}")
    return [item for item in items if item.id in own]


def is_shardable(task: Task[Any], options: object) -> bool:
    """Return whether a benchmark chooses its items by `sampled`, which also deals them."""
    return task.deals_items and isinstance(options, SampleOptions)


def _drawn(
    items: Sequence[Item], options: SampleOptions, benchmark: str, subject: Callable[[Item], str] | None
) -> list[Item]:
    if options.sample is None or options.sample >= len(items):
        return list(items)
    ordered = sorted(items, key=lambda item: _rank(benchmark, options.sample_seed, item.id))
    groups: dict[str, list[Item]] = {}
    for item in ordered:
        groups.setdefault(subject(item) if subject is not None else "", []).append(item)
    if len(groups) > options.sample:  # not one for each: drawn from all items alike
        groups = {"": ordered}
    shares = allocation({name: len(group) for name, group in groups.items()}, options.sample)
    drawn = {item.id for name, group in groups.items() for item in group[: shares[name]]}
    return [item for item in items if item.id in drawn]


def allocation(sizes: Mapping[str, int], sample: int) -> dict[str, int]:
    """Return how many items each subject gives: by its size, by largest remainder, and at least one.

    `sample` lies between the number of subjects and that of their items. Equal remainders go by name.
    """
    large = dict(sizes)
    while True:  # a share below one becomes one, and the other subjects divide the rest
        rest, left = sum(large.values()), sample - (len(sizes) - len(large))
        small = {name for name, size in large.items() if size * left < rest}
        if not small:
            break
        large = {name: size for name, size in large.items() if name not in small}
    shares = {name: large[name] * left // rest if name in large else 1 for name in sizes}
    by_remainder = sorted(large, key=lambda name: (-(large[name] * left % rest), name))
    for name in by_remainder[: sample - sum(shares.values())]:
        shares[name] += 1
    return shares


def sample_parameters(task: Task[Any], options: object) -> JsonObject:
    """Return what an entry records of the draw; empty without one."""
    if not isinstance(options, SampleOptions) or options.sample is None or not isinstance(task, QualityTask):
        return {}
    texts = task.texts(replace(options, sample=None))
    return {
        "sample": options.sample,
        "sample_seed": options.sample_seed,
        SAMPLE_OF: len(texts[task.name]) if task.name in texts else None,
    }


def _rank(benchmark: str, seed: int, name: str) -> bytes:
    """Return the place of an item in the order of the draw: random, and the same wherever it is computed."""
    return hashlib.sha256(f"{benchmark}\0{seed}\0{name}".encode()).digest()
