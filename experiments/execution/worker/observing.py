"""Observing for benchmarks: requests in, observed responses out in order; known and repeated ones are not computed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from runtime_matrix.experiments.evaluation import interruption
from runtime_matrix.experiments.evaluation.observing import OUTPUTS, Finished, observe, observe_batches, windows
from runtime_matrix.experiments.evaluation.prefix_cache import Tally
from runtime_matrix.experiments.evaluation.requests import Observed, ObserveRequest
from runtime_matrix.experiments.measurement.freed_memory import returned_at_once
from runtime_matrix.experiments.tasks.bench import Figures
from runtime_matrix.runtimes.base import Runtime, Unsupported

if TYPE_CHECKING:
    from runtime_matrix.experiments.execution.worker.bench import CellBench


class Observer:
    """Observes a stream of requests; a bounded number of them is in memory at a time: see `windows`."""

    def __init__(self, bench: CellBench, items: int):
        self._bench, self._items = bench, items
        self._options = bench.scoring
        self._tally, self._compute_s = Tally(), 0.0
        self._done = self._cached = self._computed = 0
        self._is_warm = False
        self._seen: set[bytes] = set()  # keys of the requests so far
        if bench.is_loaded:  # otherwise the first request that must be computed loads it
            self._runtime()

    def observe(self, requests: Iterable[ObserveRequest]) -> Iterator[Observed]:
        """Yield one result per request, in their order. Computed results are stored batch by batch."""
        for window in windows(requests, self._options.planning_window):
            yield from self._window(window)

    def figures(self) -> Figures:
        """Return the counts for the record; see `tasks.bench.Observer`."""
        duplicates = self._done - self._cached - self._computed
        tally = self._tally.figures()
        return {
            "observed_responses": self._done,
            "computed_responses": self._computed,
            "cached_responses": self._cached,
            "duplicate_responses": duplicates,
            "duplicate_ratio": duplicates / self._done if self._done else None,
            "computed_tokens": self._tally.run_tokens,
            "compute_s": self._compute_s if self._computed else None,
            **{name: tally[name] for name in ("forwards", "forward_rows", "padding_ratio")},
            "cache_note": self._bench.observations.note,
        }

    def _window(self, window: Sequence[ObserveRequest]) -> list[Observed]:
        observations = self._bench.observations
        keys = [observations.key(request, self._options.batch_invariant) for request in window]
        unique = dict(zip(keys, window, strict=True))
        results = observations.get(unique, self._seen)
        missing = [key for key in unique if key not in results]
        self._cached += len(results.keys() - self._seen)
        self._report(len(window) - len(missing))
        if missing:
            runtime, requests = self._runtime(), [unique[key] for key in missing]
            self._warm_up(runtime, requests[0])
            batches = observe_batches(runtime, self._bench.traits, requests, self._options, self._tally)
            with interruption.deferring(), returned_at_once():
                for batch in self._timed(batches):
                    computed = [(missing[index], result) for index, result in batch]
                    observations.keep(computed)
                    interruption.check()
                    results.update(computed)
                    self._report(len(computed))
        self._seen.update(unique)
        return [results[key] for key in keys]

    def _warm_up(self, runtime: Runtime, request: ObserveRequest) -> None:
        """Observe a first request, untimed: an engine may build a graph for it."""
        if self._is_warm:
            return
        try:
            observe(runtime, self._bench.traits, [request])
        except Unsupported as error:
            self._bench.skip(str(error))
        self._is_warm = True

    def _timed(self, batches: Iterator[Finished]) -> Iterator[Finished]:
        """Yield the batches, and count their time: not that of the caller between them."""
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            self._compute_s += time.perf_counter() - start
            self._computed += len(batch)
            yield batch

    def _runtime(self) -> Runtime:
        """Return the runtime, loaded now if it is not yet; skips the benchmark if it lacks an output."""
        runtime = self._bench.require_steps()
        lacking = OUTPUTS - self._bench.traits.outputs
        if lacking:
            name = self._bench.runtime_config.name
            self._bench.skip(f"{name} does not give {' and '.join(sorted(lacking))}; runtime=eager does")
        return runtime

    def _report(self, count: int) -> None:
        self._done += count
        self._bench.report(self._done, self._items)
