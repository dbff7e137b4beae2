"""The types of what shards did: one record per shard, and what a merged record says of all."""

from __future__ import annotations

from msgspec import Struct

from runtime_matrix.experiments.records.status import Status

_HOUR_S = 3600


class ShardRecord(Struct, frozen=True, kw_only=True):
    """What a shard did. Times are in seconds; those of all its attempts are added up."""

    index: int  # counted from 0
    count: int
    status: Status
    reason: str | None
    items: dict[str, int]  # by benchmark: lines that its items file would have
    started_at: float  # of its first attempt, in seconds since 1970
    finished_at: float
    wall_s: float
    cpu_s: float | None  # of the process and the children that it waited for; None if an attempt's is unknown
    load_s: float | None  # of the last attempt; None if it loaded nothing
    tries: int  # processes that were started for it
    is_continued: bool  # an earlier run had begun it
    host: str | None
    cores: list[int] | None  # that it was bound to; None: it was not bound
    threads: int
    environment_hash: str
    machine: str  # name of the processor, and a digest of it, its instruction sets and limits
    device: str | None  # cpu or cuda; None if it loaded nothing


class Sharding(Struct, frozen=True, kw_only=True):
    """What the record of a merged cell says of its shards."""

    shards: list[ShardRecord]
    merge_s: float | None = None  # from the last shard's end to the merged record, without unsharded benchmarks
    notes: list[str] = []

    @property
    def items(self) -> int:
        """The items of all sharded benchmarks."""
        return sum(sum(shard.items.values()) for shard in self.shards)

    @property
    def shards_s(self) -> float | None:
        """Wall time from the first shard's start to the last one's end; None if they belong to several runs."""
        if not self.shards or any(shard.is_continued for shard in self.shards):
            return None
        return max(shard.finished_at for shard in self.shards) - min(shard.started_at for shard in self.shards)

    @property
    def items_per_hour(self) -> float | None:
        """Items per hour from the first shard's start to the merged record; None if shards were interrupted."""
        if self.shards_s is None or self.merge_s is None:
            return None
        return self.items * _HOUR_S / (self.shards_s + self.merge_s)
