"""Scoring for benchmarks: requests in, log-probabilities out in order; cached responses are reused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from runtime_matrix.experiments.evaluation import interruption
from runtime_matrix.experiments.evaluation.prefix_cache import Tally
from runtime_matrix.experiments.evaluation.requests import Scored, ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import chunks, score_batches
from runtime_matrix.experiments.tasks.bench import Figures

if TYPE_CHECKING:
    from runtime_matrix.experiments.execution.worker.bench import CellBench


class Scorer:
    """Scores a stream of requests; `scoring.planning_window` of them are in memory at a time."""

    def __init__(self, bench: CellBench, items: int):
        self._bench, self._items = bench, items
        self._options = bench.scoring
        self._tally, self._done = Tally(), 0
        self._hits_before = bench.responses.hits
        self._recompiles_before = self._recompiles()

    def scores(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Yield one result per request, in their order."""
        for chunk in chunks(requests, self._options.planning_window):
            yield from self._chunk(chunk)

    def figures(self) -> Figures:
        """Return the counts for the record: tokens, padding, recompiles and cached responses."""
        after = self._recompiles()
        before = self._recompiles_before or 0
        return {
            **self._tally.figures(),
            "recompiles": None if after is None else after - before,
            "cached_responses": self._bench.responses.hits - self._hits_before,
            "cache_note": self._bench.responses.note,
        }

    def _chunk(self, chunk: list[ScoreRequest]) -> list[Scored]:
        bench, responses, exact = self._bench, self._bench.responses, self._options.batch_invariant
        results = responses.scores(chunk, exact)
        missing = [index for index, result in enumerate(results) if result is None]
        self._report(len(chunk) - len(missing))
        if missing:
            requests = [chunk[index] for index in missing]
            with interruption.deferring():
                for batch in score_batches(bench.runtime, bench.traits, requests, self._options, self._tally):
                    responses.keep_scores([(requests[index], result) for index, result in batch], exact)
                    interruption.check()
                    for index, result in batch:
                        results[missing[index]] = result
                    self._report(len(batch))
        return [result for result in results if result is not None]

    def _report(self, count: int) -> None:
        self._done += count
        self._bench.report(self._done, self._items)

    def _recompiles(self) -> int | None:
        return self._bench.runtime.counters().get("recompiles") if self._bench.is_loaded else None
