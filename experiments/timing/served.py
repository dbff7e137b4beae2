"""Slices of load in interleaved launches: the same requests for each cell, a fixed number in flight, in turns."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.config.schema import ComparisonConfig
from runtime_matrix.experiments.evaluation.requests import Failed, GenerateRequest
from runtime_matrix.experiments.measurement.processes import TreeClock
from runtime_matrix.experiments.records.comparison import ServedSlice
from runtime_matrix.experiments.traffic.arrivals import draw_sizes
from runtime_matrix.experiments.traffic.driver import ClosedLoop, Start, drive
from runtime_matrix.experiments.traffic.requests import draw_requests

_TIMEOUT_S = 300.0  # of a request


@dataclass(frozen=True)
class Slice:
    """The requests of a slice, a fixed number of them in flight."""

    requests: Sequence[GenerateRequest]
    concurrency: int


@dataclass(frozen=True)
class ServedTokens:
    """The times of a slice, and the tokens of each request."""

    times: ServedSlice
    tokens: list[list[int]]


def draw_slice(seed: str, options: ComparisonConfig, vocabulary: int) -> Slice:
    """Return a slice with new prompts; texts have from half of `new_tokens` to all of them."""
    assert options.serving_concurrency is not None
    fewest = max(2, options.new_tokens // 2)
    new_tokens = (fewest, options.new_tokens)
    sizes = draw_sizes("uniform", options.prompt_tokens, new_tokens, options.serving_requests, random.Random(seed))
    return Slice(draw_requests(seed, sizes, 0, vocabulary), options.serving_concurrency)


def serve(start: Start, work: Slice) -> ServedTokens:
    """Drive the engine with a slice. RuntimeError if a request fails: its time cannot be compared."""
    clock = TreeClock()
    before_s = clock()
    driven = drive(
        start,
        work.requests,
        ClosedLoop(work.concurrency),
        _TIMEOUT_S,
    )
    cpu_s = clock() - before_s
    failed = [served.result.reason for served in driven.requests if isinstance(served.result, Failed)]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(work.requests)} served requests failed, the first: {failed[0]}")
    return ServedTokens(
        ServedSlice(
            ttft_s=[served.ttft_s for served in driven.requests],
            tpot_s=[served.tpot_s or 0.0 for served in driven.requests],
            e2e_s=[served.e2e_s for served in driven.requests],
            duration_s=driven.duration_s,
            new_tokens=sum(len(served.ids) for served in driven.requests),
            cpu_s=cpu_s,
        ),
        [served.ids for served in driven.requests],
    )


def rows_of(slices: Sequence[Slice], results: Sequence[ServedTokens]) -> list[tuple[list[int], list[int]]]:
    """Return (prompt, tokens) of each request."""
    return [
        (list(request.ids), tokens)
        for work, result in zip(slices, results, strict=False)
        for request, tokens in zip(work.requests, result.tokens, strict=True)
    ]
