"""The work of each switch of observing responses: the same responses with it on and off."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from runtime_matrix.experiments.config.schema import ScoringConfig
from runtime_matrix.experiments.evaluation.observation_cache import Observations
from runtime_matrix.experiments.evaluation.observing import observe
from runtime_matrix.experiments.evaluation.requests import Observed, ObserveRequest, ScoreRequest, cut_context
from runtime_matrix.experiments.evaluation.scoring import score
from runtime_matrix.experiments.execution.worker import loading
from runtime_matrix.experiments.execution.worker.bench import CellBench
from runtime_matrix.experiments.validation.ablation import Switch
from runtime_matrix.runtimes.base import Runtime, Traits, Unsupported

Figures = list[float]
Loaded = tuple[Runtime, Traits]
SETTINGS = 5  # of an ablation that scores the same responses in each
_FEW_PAIRS = 3  # of work that takes seconds
_BATCHED, _ONE_BY_ONE, _UNSORTED = ScoringConfig(), ScoringConfig(batch=False), ScoringConfig(sort_by_length=False)
_PLAIN = ScoringConfig(share_prefix=False, share_question=False)


@dataclass(frozen=True)
class Sizes:
    """How many responses a turn observes, and the length of the long ones in tokens."""

    responses: int
    long: int
    long_tokens: int


class ObservingSwitches:
    """The switches over the requests of some responses, in the order of the data. `opened` closes what they open."""

    def __init__(self, bench: CellBench, requests: Sequence[ObserveRequest], sizes: Sizes, opened: ExitStack):
        self._bench, self._opened = bench, opened
        self._own: Loaded = (bench.require_steps(), bench.traits)
        self._mixed = requests[: sizes.responses]
        self._short = sorted(requests, key=lambda request: len(request.ids))[: sizes.responses]
        self._most = min(sizes.long_tokens, bench.traits.max_length or sizes.long_tokens)
        self._long = [_lengthened(request, requests, self._most) for request in self._mixed[: sizes.long]]
        folder = opened.enter_context(tempfile.TemporaryDirectory(dir=bench.folder))
        self._stored = Observations(Path(folder) / "observed.sqlite", {}, use=True)
        opened.callback(self._stored.close)

    def all(self) -> list[Switch]:
        """Return all switches."""
        run, mixed, short, long = self._observed, self._mixed, self._short, self._long
        on_mixed, on_short = _sizes(mixed), _sizes(short)
        return [
            Switch("cached scores", partial(self._cached, self._stored), partial(run, mixed), work=on_mixed),
            Switch("cached scores of five settings", self._settings_cached, self._settings, _FEW_PAIRS, on_mixed),
            Switch("batched responses, short", partial(run, short), partial(run, short, _ONE_BY_ONE), work=on_short),
            Switch(
                *("batched responses, long", partial(run, long), partial(run, long, _ONE_BY_ONE), _FEW_PAIRS),
                _sizes(long),
            ),
            Switch("responses sorted by length", partial(run, mixed), partial(run, mixed, _UNSORTED), work=on_mixed),
            self._attention(),
            Switch("half the tokens", self._halved, partial(self._counted, long), _FEW_PAIRS, _sizes(long)),
            Switch("outputs beside logits", partial(self._logprobs, mixed), partial(self._plain, mixed), work=on_mixed),
            Switch(
                *("everything, detection", self._settings_cached, partial(self._settings, _ONE_BY_ONE), _FEW_PAIRS),
                on_mixed,
            ),
        ]

    def _observed(
        self, requests: Sequence[ObserveRequest], options: ScoringConfig = _BATCHED, loaded: Loaded | None = None
    ) -> Figures:
        return _figures(observe(*(loaded or self._own), requests, options))

    # The cache

    def _cached(self, observations: Observations) -> Figures:
        """Return the figures of the stored results; those that are not stored yet are computed first."""
        keys = {observations.key(request, False): request for request in self._mixed}
        results = observations.get(keys, keys.keys())
        missing = {key: request for key, request in keys.items() if key not in results}
        if missing:
            computed = dict(zip(missing, observe(*self._own, list(missing.values())), strict=True))
            observations.keep(computed.items())
            results.update(computed)
        return _figures([results[observations.key(request, False)] for request in self._mixed])

    def _settings_cached(self) -> Figures:
        """Score the same responses in each setting, with a cache that is empty at first."""
        observations = Observations(None, {}, use=True)
        figures = [self._cached(observations) for _ in range(SETTINGS)][-1]
        observations.close()
        return figures

    def _settings(self, options: ScoringConfig = _BATCHED) -> Figures:
        return [self._observed(self._mixed, options) for _ in range(SETTINGS)][-1]

    # Attention, outputs and lengths

    def _attention(self) -> Switch:
        name, options = "attention by sdpa", self._bench.runtime_config.engine
        if options.get("attention") != "sdpa":
            return _unsupported(name, "the cell's runtime has no engine.attention=sdpa: use runtime=eager")
        try:
            eager = self._opened_with(attention="eager")
        except Unsupported as error:
            return _unsupported(name, str(error))
        run = partial(self._observed, self._mixed)
        return Switch(name, run, partial(run, loaded=eager), work=_sizes(self._mixed))

    def _opened_with(self, **engine: str) -> Loaded:
        """Return the cell's runtime, loaded again with other options of its engine."""
        cell = self._bench.cell
        config = replace(cell.config.runtime, engine={**cell.config.runtime.engine, **engine})
        runtime = self._opened.enter_context(loading.make_stepping(config, "measured beside the cell's"))
        return runtime, loading.load(cell, runtime, config, cell.hardware(self._bench.device), lambda _: nullcontext())

    def _halved(self) -> Figures:
        cut = [
            cut_context(request.ids, request.context, request.first_scored, self._most // 2) for request in self._long
        ]
        return self._counted([request for request, _ in filter(None, cut)])

    def _counted(self, requests: Sequence[ObserveRequest]) -> Figures:
        """Return the number of responses: shorter contexts have other scores."""
        return [float(len(observe(*self._own, requests)))]

    def _logprobs(self, requests: Sequence[ObserveRequest]) -> Figures:
        return [float(observed.logprobs_T.sum()) for observed in observe(*self._own, requests)]

    def _plain(self, requests: Sequence[ObserveRequest]) -> Figures:
        """Return the same log-probabilities from a forward that returns logits alone."""
        plain = [ScoreRequest(request.ids, request.first_scored) for request in requests]
        return [scored.total for scored in score(*self._own, plain, _PLAIN)]


def _figures(results: Sequence[Observed]) -> Figures:
    """Return figures of each result that differ if its scores do."""
    return [
        float(value)
        for observed in results
        for value in (
            observed.logprobs_T.sum(),
            observed.external_context_TH.mean(),
            observed.parametric_knowledge_TL.mean(),
        )
    ]


def _lengthened(request: ObserveRequest, others: Sequence[ObserveRequest], tokens: int) -> ObserveRequest:
    """Return the request with contexts of others before its own, so that it has this number of tokens."""
    missing = tokens - len(request.ids)
    filling: list[int] = []
    while missing > 0 and len(filling) < missing:
        filling += [token for other in others for token in other.ids[other.context.start : other.context.stop]]
    start, count = request.context.start, max(0, missing)
    ids = (*request.ids[:start], *filling[:count], *request.ids[start:])
    return ObserveRequest(ids, range(start, request.context.stop + count), request.first_scored + count)


def _sizes(requests: Sequence[ObserveRequest]) -> str:
    lengths = [len(request.ids) for request in requests]
    ends = dict.fromkeys((f"{min(lengths):,}", f"{max(lengths):,}"))
    return f"{len(requests)} responses of {' to '.join(ends)} tokens"


def _unsupported(name: str, reason: str) -> Switch:
    nothing: Callable[[], Figures] = list
    return Switch(name, nothing, nothing, unsupported=reason)
