"""Scoring for benchmarks: requests in, log-probabilities out in order; cached responses are reused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from runtime_matrix.experiments.evaluation import interruption
from runtime_matrix.experiments.evaluation.prefix_cache import Tally
from runtime_matrix.experiments.evaluation.requests import Failed, Scored, ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import chunks
from runtime_matrix.experiments.tasks.bench import Figures
from runtime_matrix.runtimes.base import Unsupported

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
        self._failures: list[tuple[int, str]] = []  # (index of the request, reason)
        self._requested = 0

    def scores(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Yield one result per request, in their order.

        After a failed request, the others are still scored and cached, and RequestFailed is raised at the end.
        """
        for chunk in chunks(requests, self._options.planning_window):
            results = self._chunk(chunk)
            self._requested += len(chunk)
            if not self._failures:
                yield from results
        self._bench.fail_after(self._failures, self._requested)

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
            try:
                with interruption.deferring():
                    for batch in bench.face.score(requests, self._options, self._tally):
                        scored = [(index, result) for index, result in batch if isinstance(result, Scored)]
                        responses.keep_scores([(requests[index], result) for index, result in scored], exact)
                        interruption.check()
                        for index, result in scored:
                            results[missing[index]] = result
                        for index, failure in batch:
                            if isinstance(failure, Failed):
                                self._failures.append((self._requested + missing[index], failure.reason))
                        self._report(len(batch))
            except Unsupported as error:
                bench.skip(str(error))
        return [result for result in results if result is not None]

    def _report(self, count: int) -> None:
        self._done += count
        self._bench.report(self._done, self._items)

    def _recompiles(self) -> int | None:
        return self._bench.engine.counters().get("recompiles") if self._bench.is_loaded else None
