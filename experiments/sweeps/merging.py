"""Merge the shards of a cell: its process takes their responses, and its record says what they did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.parts import KEPT_FILE, shard_folders
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.execution.outcome import Outcome
from runtime_matrix.experiments.records.journal import Journal, read_journal
from runtime_matrix.experiments.records.sharding import Sharding, ShardRecord
from runtime_matrix.experiments.sweeps.shards import read_shard

_OF_SHARDS = ("load", "probe")  # events of the first shard that stand for a cell whose process loaded nothing
_MERGING = "measure"  # the job of a cell in which its shards are merged


def failed_shard(results: Path, cell: Cell) -> Outcome | None:
    """Return the outcome of a cell one of whose shards failed or is missing; None if all are there."""
    count = cell.config.shards
    for index, folder in enumerate(shard_folders(results, cell)):
        record = read_shard(folder)
        if record is None:
            reason = f"it was not computed: shards={count} shard={index} computes it, and resume=true goes on"
            return Outcome("error", f"shard {index} of {count}: {reason}", None)
        if record.status != "ok":
            return Outcome(record.status, f"shard {index} of {count}: {record.reason}", None)
        if not (folder / KEPT_FILE).exists():
            reason = f"its responses were removed after an earlier merge: remove {folder}"
            return Outcome("error", f"shard {index} of {count}: {reason}", None)
    return None


def write_sharding(journal: Path, results: Path, cell: Cell, elapsed_s: float) -> None:
    """Write what the shards did, and what merging them took, of the `elapsed_s` since the last shard's end.

    A cell whose own process loaded nothing gets the load of the first shard.
    """
    events = read_journal(journal)
    shards = [record for folder in shard_folders(results, cell) if (record := read_shard(folder)) is not None]
    merged = next((event for event in reversed(events) if event["event"] == "merged"), None)
    merge_s = None
    if merged is not None:
        apart_s = sum(event["wall_s"] for event in events if _is_apart(event))
        merge_s = elapsed_s - apart_s - merged["unsharded_s"]
    computed = merged["computed"] if merged is not None else 0
    writer = Journal(journal)
    writer.write("shards", Sharding(shards=shards, merge_s=merge_s, notes=_notes(shards, computed)))
    if merged is not None and not any(event["event"] == "load" for event in events):
        _copy_load(shard_folders(results, cell)[0] / "journal.jsonl", writer)


def _is_apart(event: JsonObject) -> bool:
    return event["event"] == "job" and event["name"] not in ("check", _MERGING)  # the check was before


def _notes(shards: Sequence[ShardRecord], computed: int) -> list[str]:
    notes = []
    machines = Counter(shard.machine for shard in shards)
    if len(machines) > 1:
        notes.append(f"the shards ran on {len(machines)} kinds of machine: {', '.join(sorted(machines))}")
    if computed:
        notes.append(f"{computed} responses or programs were in no shard: the process that merged computed them")
    continued = sum(shard.is_continued for shard in shards)
    if continued:
        notes.append(f"{continued} of {len(shards)} shards were interrupted and continued")
    return notes


def _copy_load(journal: Path, writer: Journal) -> None:
    events = {event["event"]: event for event in read_journal(journal) if event["event"] in _OF_SHARDS}
    for name, event in events.items():
        fields = {key: value for key, value in event.items() if key != "event"}
        if name == "load":  # its times were taken beside the other shards
            note = "every response came from a shard: this is how the first shard loaded the model"
            fields |= {"phases_s": {}, "import_s": None, "notes": [*fields.get("notes", []), note]}
        writer.write(name, **fields)
