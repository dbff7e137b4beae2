"""`/loglikelihood`: log-probabilities of continuations by the scoring loop of the benchmarks, for texts or ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.evaluation.prefix_cache import Tally
from runtime_matrix.experiments.evaluation.requests import Continuations, Scored, ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import score_batches
from runtime_matrix.experiments.serving.answering import admitted, computed
from runtime_matrix.experiments.serving.errors import ApiError
from runtime_matrix.experiments.serving.fields import Fields
from runtime_matrix.experiments.serving.served import Served


async def loglikelihood(body: Any, served: Served) -> Any:
    """Return the result of an object with context and continuation, or of each of a list of them. Raises ApiError."""
    bodies = body if isinstance(body, list) else [body]
    if not bodies:
        raise ApiError("the list is empty: send at least one context with its continuation")
    most = served.scheduler.limits.max_requests
    if len(bodies) > most:
        raise ApiError(f"{len(bodies)} requests exceed serve.max_requests={most}: send fewer")
    requests = [_request(one, served) for one in bodies]
    scored = await _score(requests, served)
    results = [_result(request, result) for request, result in zip(requests, scored, strict=True)]
    return results if isinstance(body, list) else results[0]


async def _score(requests: Sequence[ScoreRequest], served: Served) -> list[Scored]:
    def parts() -> Any:
        return score_batches(served.runtime, served.traits, requests, served.scoring, Tally())

    work = admitted(lambda: served.scheduler.work(parts, len(requests)))
    by_index: dict[int, Scored] = {index: result for part in await computed(work) for index, result in part}
    return [by_index[index] for index in range(len(requests))]


def _request(body: Any, served: Served) -> ScoreRequest:
    fields = Fields(body)
    context, continuation = fields.raw("context"), fields.raw("continuation")
    fields.drop(("model",))
    fields.refuse_rest()
    if not context or not continuation:
        raise ApiError("context and continuation must have at least one token each", param="context")
    if isinstance(context, str) and isinstance(continuation, str):
        text = served.tokenizer("a text")
        try:
            (((request,), was_cut),) = text.continuations([Continuations("", context, [continuation])])
        except (TypeError, ValueError) as error:
            raise ApiError(f"the text cannot be tokenized: {str(error)[:100]}") from None
        if was_cut:
            raise ApiError("context and continuation exceed what the model takes: shorten the context", param="context")
    elif isinstance(context, list) and isinstance(continuation, list):
        ids = (*served.check_ids(context, "context"), *served.check_ids(continuation, "continuation"))
        request = ScoreRequest(ids, len(context))
    else:
        raise ApiError("context and continuation must be two texts or two lists of token ids", param="context")
    served.check_length(len(request.ids) - 1, 0)  # the last token is scored but never run
    return request


def _result(request: ScoreRequest, scored: Scored) -> JsonObject:
    return {
        "total": scored.total,
        "is_greedy": all(margin <= 0 for margin in scored.top1_margins),
        "tokens": list(request.ids[request.first_scored :]),
        "logprobs": list(scored.logprobs),
    }
