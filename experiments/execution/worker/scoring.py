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
    """Scores a stream of requests, of which only `scoring.planning_window` are held at a time."""

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
        """Return what was run, for the record."""
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
        known = responses.scores(chunk, exact)
        missing = [index for index, one in enumerate(known) if one is None]
        self._tell(len(chunk) - len(missing))
        if missing:
            asked = [chunk[index] for index in missing]
            with interruption.deferring():
                for finished in score_batches(bench.runtime, bench.traits, asked, self._options, self._tally):
                    responses.keep_scores([(asked[at], one) for at, one in finished], exact)
                    interruption.check()
                    for at, one in finished:
                        known[missing[at]] = one
                    self._tell(len(finished))
        return [one for one in known if one is not None]

    def _tell(self, count: int) -> None:
        self._done += count
        self._bench.report(self._done, self._items)

    def _recompiles(self) -> int | None:
        return self._bench.runtime.counters().get("recompiles") if self._bench.is_loaded else None
