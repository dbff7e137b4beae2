"""What a process reads and writes of the files of shards, and how the work of shards enters a merged entry."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.parts import ShardFiles, is_merged, shard_files, shard_folders, shardable
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.evaluation.observation_cache import Observations
from runtime_matrix.experiments.evaluation.response_cache import Responses
from runtime_matrix.experiments.execution.worker.bench import CellBench
from runtime_matrix.experiments.records.journal import Journal, read_journal
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.sandbox.kept_programs import KeptPrograms

# Figures of work that are added up over shards.
_SUMS = frozenset({
    *("asked_tokens", "run_tokens", "forwards", "forward_rows", "shared_prefixes", "tied_positions", "recompiles"),
    *("steps", "step_rows", "readings", "tied_first_tokens", "drafted_tokens"),
    *("observed_responses", "computed_responses", "duplicate_responses", "computed_tokens", "compute_s"),
    *("cached_responses", "cached_verdicts"),
})  # fmt: skip
_LARGEST = frozenset({"peak_host_bytes", "peak_device_bytes"})
# Means, and the count that each is weighted with.
_MEANS = {"accepted_tokens_per_step": "step_rows", "duplicate_ratio": "observed_responses"}
_PADDING = "padding_ratio"


@dataclass(frozen=True)
class Stores:
    """Where scores, texts, observed responses and verdicts of a benchmark are kept."""

    responses: Responses
    observations: Observations
    programs: KeptPrograms | None = None

    @property
    def computed(self) -> int:
        """Return how many responses and programs were computed here."""
        programs = 0 if self.programs is None else self.programs.kept
        return self.responses.kept + self.observations.kept + programs


class PartsOfCell:
    """What a process has to do with shards: nothing, or it is one of them, or it merges them."""

    def __init__(self, cell: Cell, folder: Path, opened: ExitStack):
        self._cell, self._opened = cell, opened
        self._files = shard_files(cell, folder)
        own = self._files.own if self._files is not None else None
        self._is_continued = own is not None and own.exists()
        self._sharded = frozenset(task.name for task, _ in shardable(cell.config)) if is_merged(cell) else frozenset()
        self._of_cell: Stores | None = None
        self._of_shards: Stores | None = None
        self._unsharded_s = 0.0

    def enter(self, bench: CellBench, benchmark: str) -> None:
        """Make the bench keep and find the responses of a benchmark where they belong."""
        if self._files is None:
            return
        if self._of_cell is None or self._of_shards is None:
            self._of_cell = Stores(bench.responses, bench.observations)
            self._of_shards = opened_stores(self._cell, self._files, self._opened)
        bench.is_shard = self._files.own is not None
        is_dealt = bench.is_shard or benchmark in self._sharded
        stores = self._of_shards if is_dealt else self._of_cell
        bench.responses, bench.observations, bench.kept_programs = (
            stores.responses,
            stores.observations,
            stores.programs,
        )

    def may_need_no_model(self, benchmark: str) -> bool:
        """Return whether all responses of the benchmark may be there."""
        return self._is_continued or benchmark in self._sharded

    def counted(self, bench: CellBench) -> dict[str, int]:
        """Return how many items the benchmark that has just run has in this shard; empty elsewhere."""
        if not bench.is_shard:
            return {}
        return {"items": bench.counted.get(bench.running, 0)}

    def merged(self, entry: Entry) -> Entry:
        """Return an entry with the work of the shards in place of that of merging, whose times say nothing."""
        if entry.benchmark not in self._sharded:
            return entry
        results = Path(self._cell.config.results_dir)
        work = work_of_shards(shard_folders(results, self._cell), entry.benchmark, entry.case)
        return replace(entry, figures={**entry.figures, **work}, samples={}, duration_s=None)

    @contextmanager
    def timed(self, benchmark: str) -> Iterator[None]:
        """Count the time of a benchmark that is not sharded."""
        start = time.perf_counter()
        yield
        if benchmark not in self._sharded:
            self._unsharded_s += time.perf_counter() - start

    def write_end(self, journal: Journal) -> None:
        """Write what merging computed itself, and how long the benchmarks took that are not sharded."""
        if self._sharded:
            computed = self._of_shards.computed if self._of_shards is not None else 0
            journal.write("merged", unsharded_s=self._unsharded_s, computed=computed)


def opened_stores(cell: Cell, files: ShardFiles, opened: ExitStack) -> Stores:
    """Return the files of shards, opened; `opened` closes them. FileNotFoundError if a shard's file is missing.

    The files belong to the cell, so their keys hold neither machine nor threads.
    """
    for other in files.others:
        if not other.exists():
            raise FileNotFoundError(f"{other} is missing: the shard was not computed, or its cell was merged before")
    identity: JsonObject = {"cell": cell.config_hash}
    stores = Stores(
        Responses(files.own, identity, True, files.others),
        Observations(files.own, identity, True, files.others),
        KeptPrograms(files.own, files.others),
    )
    assert stores.programs is not None
    for store in (stores.responses, stores.observations, stores.programs):
        opened.callback(store.close)
    return stores


def done_entries(folder: Path) -> dict[tuple[str, str], JsonObject]:
    """Return the last successful entry of each grid point in the journal of a shard, by benchmark and point."""
    return {
        (event["benchmark"], event.get("case", "")): event
        for event in read_journal(folder / "journal.jsonl")
        if event["event"] == "benchmark" and event["status"] in ("ok", "skipped")
    }


def without_done(cell: Cell, folder: Path) -> Cell:
    """Return the cell of a shard without the benchmarks all of whose grid points its journal has."""
    done = done_entries(folder)
    chosen = cell.config.benchmark
    left = {
        task.name: options
        for task, options in chosen.items()
        if not all((task.name, point) in done for point in task.grid(options))
    }
    config = dataclasses.replace(cell.config, benchmark=dataclasses.replace(chosen, options=left))
    return dataclasses.replace(cell, config=config)


def work_of_shards(folders: Sequence[Path], benchmark: str, case: str) -> JsonObject:
    """Return the figures of work of a grid point over all shards: sums, of peaks the largest, of ratios the mean.

    A figure is None if a shard does not know it. A shard without items does not count.
    """
    entries = [done_entries(folder).get((benchmark, case)) for folder in folders]
    return combined([entry["figures"] for entry in entries if entry is not None and entry["status"] == "ok"])


def combined(figures: Sequence[JsonObject]) -> JsonObject:
    """Return the combined figures of work."""
    result: JsonObject = {}
    for name in {name: None for part in figures for name in part}:
        values = [part[name] for part in figures if name in part]
        is_known = all(value is not None for value in values)
        if name in _SUMS:
            result[name] = sum(values) if is_known else None
        elif name in _LARGEST:
            result[name] = max(values) if is_known else None
        elif name in _MEANS:
            result[name] = _mean([(part[name], part[_MEANS[name]]) for part in figures if part.get(name) is not None])
        elif name == _PADDING:
            result[name] = _padding(figures)
    return result


def _mean(weighted: Sequence[tuple[float, float]]) -> float | None:
    total = sum(weight for _, weight in weighted)
    return sum(value * weight for value, weight in weighted) / total if total else None


def _padding(figures: Sequence[JsonObject]) -> float | None:
    """Return the share of padding in all tokens that were run."""
    known = [part for part in figures if part.get(_PADDING) is not None]
    runs = [part.get("run_tokens", part.get("computed_tokens")) or 0 for part in known]
    padded = sum(run / (1 - part[_PADDING]) for part, run in zip(known, runs, strict=True))
    return 1 - sum(runs) / padded if padded else None
