"""The observing loop: what a runtime shows while it reads given responses, in batches of requests.

Shapes: B rows, T tokens, K observed positions per row, N observed tokens, V vocabulary, L layers, H heads of a layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from runtime_matrix.experiments.config.schema import ScoringConfig
from runtime_matrix.experiments.evaluation.batching import batches, pad, pad_positions, split
from runtime_matrix.experiments.evaluation.finite import check_numbers
from runtime_matrix.experiments.evaluation.prefix_cache import Tally
from runtime_matrix.experiments.evaluation.requests import Observed, ObserveRequest
from runtime_matrix.runtimes.base import (
    ATTENDED_ONE_IN,
    EXTERNAL_CONTEXT,
    LOGITS,
    PARAMETRIC_KNOWLEDGE,
    Outputs,
    Runtime,
    Traits,
)
from runtime_matrix.runtimes.transfer import to_device

OUTPUTS = LOGITS | {EXTERNAL_CONTEXT, PARAMETRIC_KNOWLEDGE}
# Values per batch: the larger of the logits and of what the heads attend to at the observed positions. 128 MiB in
# float32; a runtime holds several such arrays at a time, for the two distributions of a layer.
_MOST_VALUES = 1 << 25
# Observed tokens that are planned, and whose results are held, at a time: several batches of the usual size, and 17 MiB
# of results for a model of 32 layers with 32 heads.
_MOST_TOKENS = 1 << 12
Finished = list[tuple[int, Observed]]  # (index of the request, result)


def observe(
    runtime: Runtime, traits: Traits, requests: Sequence[ObserveRequest], options: ScoringConfig | None = None
) -> list[Observed]:
    """Return one result per request, in their order; FloatingPointError for outputs that are not finite."""
    results: dict[int, Observed] = {}
    for finished in observe_batches(runtime, traits, requests, options or ScoringConfig(), Tally()):
        results.update(finished)
    return [results[index] for index in range(len(requests))]


def observe_batches(
    runtime: Runtime, traits: Traits, requests: Sequence[ObserveRequest], options: ScoringConfig, tally: Tally
) -> Iterator[Finished]:
    """Yield the results of each batch as soon as it is done; each request is in exactly one batch.

    The runtime must have the `OUTPUTS`.
    """
    one_by_one = options.batch_invariant or not options.batch
    budget = 1 if one_by_one else options.token_budget or traits.batch_tokens
    lengths = [len(request.ids) - 1 for request in requests]  # the last token is observed but never run
    heads = 0  # of all layers; known from the first batch on
    by_length = options.rows_by_length
    for batch in batches(lengths, traits, budget, options.sort_by_length, rows_by_length=by_length):
        widths = {index: requests[index].tokens * _values(requests[index], traits, heads) for index in batch}
        for part in split(batch, widths, _MOST_VALUES):
            observed = _run(runtime, traits, [requests[index] for index in part], tally)
            heads = observed[0].external_context_TH.shape[1]
            yield list(zip(part, observed, strict=True))
    tally.asked_tokens += sum(lengths)


def windows(requests: Iterable[ObserveRequest], most_requests: int) -> Iterator[list[ObserveRequest]]:
    """Split a stream into lists that are planned together, of bounded sizes; a single request always fits."""
    window: list[ObserveRequest] = []
    tokens = 0
    for request in requests:
        if window and (len(window) >= most_requests or tokens + request.tokens > _MOST_TOKENS):
            yield window
            window, tokens = [], 0
        window.append(request)
        tokens += request.tokens
    if window:
        yield window


def _values(request: ObserveRequest, traits: Traits, heads: int) -> int:
    """Return how many values an observed position takes: its logits, or the tokens that its heads attend to most."""
    return max(traits.vocabulary, heads * max(1, len(request.context) // ATTENDED_ONE_IN))


def _run(runtime: Runtime, traits: Traits, requests: Sequence[ObserveRequest], tally: Tally) -> list[Observed]:
    ids_BT, lengths = pad([request.ids[:-1] for request in requests], traits)
    at_BK = pad_positions([range(request.first_scored - 1, len(request.ids) - 1) for request in requests], len(lengths))
    contexts = [request.context for request in requests] + [range(1)] * (len(lengths) - len(requests))
    tally.add(ids_BT, lengths, len(requests))
    return _read(runtime.forward(ids_BT, lengths, None, at_BK, outputs=OUTPUTS, contexts=contexts), requests)


def _read(outputs: Outputs, requests: Sequence[ObserveRequest]) -> list[Observed]:
    logits_BKV = outputs.logits_BKV
    external_BKLH, knowledge_BKL = outputs.external_context_BKLH, outputs.parametric_knowledge_BKL
    if external_BKLH is None or knowledge_BKL is None:
        raise ValueError("the runtime declares outputs that it did not return: external_context, parametric_knowledge")
    at = [
        (row, column, token)
        for row, request in enumerate(requests)
        for column, token in enumerate(request.ids[request.first_scored :])
    ]
    row_N, column_N, target_N = to_device(torch.tensor(at), logits_BKV.device).unbind(1)
    logprob_N = logits_BKV[row_N, column_N, target_N] - logits_BKV.logsumexp(dim=2)[row_N, column_N]
    external_NX, knowledge_NL = external_BKLH[row_N, column_N].flatten(1), knowledge_BKL[row_N, column_N]
    # One transfer for everything, because each transfer waits for the device.
    parts = (logprob_N[:, None], external_NX, knowledge_NL)
    values_NX = torch.cat([part.float() for part in parts], dim=1).cpu().numpy()
    heads, layers = external_NX.shape[1], knowledge_NL.shape[1]
    cuts = np.cumsum([request.tokens for request in requests])[:-1]
    return [_observed(part, heads, heads // layers) for part in np.split(values_NX, cuts)]


def _observed(values_TX: NDArray[np.float32], heads: int, heads_per_layer: int) -> Observed:
    """Return copies of the parts, so that none keeps the batch in memory."""
    observed = Observed(
        values_TX[:, 0].copy(), values_TX[:, 1 : 1 + heads].copy(), values_TX[:, 1 + heads :].copy(), heads_per_layer
    )
    named = {
        "logits": observed.logprobs_T,
        EXTERNAL_CONTEXT: observed.external_context_TH,
        PARAMETRIC_KNOWLEDGE: observed.parametric_knowledge_TL,
    }
    for what, values in named.items():
        if not np.isfinite(values).all():
            check_numbers(values.ravel().tolist(), "an observed token", what)
    return observed
