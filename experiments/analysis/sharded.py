"""What a merged cell's shards did, as figures of its row; None for a cell without shards."""

from __future__ import annotations

from runtime_matrix.experiments.records.metric import Metric, number
from runtime_matrix.experiments.records.row import Figures
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.records.sharding import Sharding

METRICS = (
    Metric(
        key="shards",
        title="shards",
        group="throughput",
        rank=5,
        display=number("{:.0f}"),
        about="Processes over which the items of the cell were dealt.",
    ),
    Metric(
        key="items_per_hour",
        title="all items",
        unit="items/h",
        group="throughput",
        rank=5,
        display=number("{:,.0f}"),
        about="Items of all sharded benchmarks per hour, from the start of the first shard to the merged record, "
        "loading included; unknown if a shard was interrupted.",
    ),
    Metric(
        key="merge_s",
        title="merging",
        unit="s",
        group="throughput",
        rank=8,
        display=number("{:.1f}"),
        about="Time from the end of the last shard to the merged record, without benchmarks that are not sharded.",
    ),
)


def sharded(record: Record) -> Figures:
    """Return the figures of a record's shards."""
    shards: Sharding | None = record.shards
    return {
        "shards": None if shards is None else len(shards.shards),
        "items_per_hour": None if shards is None else shards.items_per_hour,
        "merge_s": None if shards is None else shards.merge_s,
    }


def shards_note(record: Record) -> str | None:
    """Return what is special about the shards, in one line; None for nothing."""
    return None if record.shards is None else "; ".join(record.shards.notes) or None
