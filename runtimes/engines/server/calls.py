"""Scoring and generation over HTTP: requests in, results or failures out, as coroutines of one loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from runtime_matrix.runtimes.engines.server.messages import (
    COMPLETIONS,
    MALFORMED,
    Dialect,
    Part,
    check_error,
    likeliest,
    parts,
    prompt_scores,
)
from runtime_matrix.runtimes.engines.server.messages import usage as usage_of
from runtime_matrix.runtimes.engines.server.tokens import NoText
from runtime_matrix.runtimes.http_calls import CallFailed, Connection
from runtime_matrix.runtimes.requests import (
    Failed,
    Generated,
    GenerateRequest,
    Listener,
    Scored,
    ScoreRequest,
    Usage,
)

Prompt = Callable[[Sequence[int]], Any]  # turns the ids of a prompt into what the server takes
ScoreGroup = Sequence[tuple[int, ScoreRequest]]  # (index of the request, request)
_ENDS = {  # servers name the ends of a text differently; a stop string and the end of text are one for most
    **{"length": "length", "limit": "length"},
    **{"stop": "stop", "word": "stop", "stop_sequence": "stop"},
    **{"eos": "eos", "eos_token": "eos"},
}
_OF_ITEM = frozenset({400, 413, 422})  # refusals of one item, for which those of the same call are not to suffer
TextGroup = Sequence[tuple[int, int, GenerateRequest]]  # (index of the request, index of its seed, request)


@dataclass(frozen=True)
class Calls:
    """Sends requests in the dialect of a server."""

    connection: Connection
    dialect: Dialect
    prompt: Prompt
    alternatives: int  # most likeliest tokens that the server gives

    async def score(self, group: ScoreGroup) -> AsyncIterator[tuple[int, Scored | Failed]]:
        """Score the requests in one call, or each alone if the server refuses one of them."""
        prompts = [(*request.prefix, *request.ids) for _, request in group]
        try:
            reply = await self.connection.post(COMPLETIONS, self.dialect.scoring(prompts))
            choices = _by_index(reply, len(group))
        except (CallFailed, *MALFORMED) as error:
            if len(group) == 1 or not _is_of_an_item(error):
                for index, _ in group:
                    yield index, self._failed(error)
                return
            for one in group:
                async for result in self.score([one]):
                    yield result
            return
        for (index, request), ids, choice in zip(group, prompts, choices, strict=True):
            assert self.dialect.score_source is not None
            try:
                first = len(request.prefix) + request.first_scored
                yield index, prompt_scores(choice, ids, first, self.dialect.score_source)
            except (CallFailed, *MALFORMED) as error:
                yield index, self._failed(error)

    async def score_next(self, group: ScoreGroup) -> AsyncIterator[tuple[int, Scored | Failed]]:
        """Score the last tokens of requests that agree in all tokens before, by the likeliest next tokens."""
        context = [*group[0][1].prefix, *group[0][1].ids[:-1]]
        try:
            reply = await self.connection.post(COMPLETIONS, self.dialect.next_token(context, self.alternatives))
            check_error(reply)
            by_id = likeliest(reply)
        except (CallFailed, *MALFORMED) as error:
            by_id, failure = {}, self._failed(error)
        else:
            failure = Failed(f"the token is not among the {len(by_id)} likeliest that the server gives")
        for index, request in group:
            logprob = by_id.get(request.ids[-1])
            margin = None if logprob is None else max(by_id.values()) - logprob
            yield index, failure if logprob is None or margin is None else Scored((logprob,), (margin,))

    async def generate(self, group: TextGroup) -> AsyncIterator[tuple[int, int, Generated | Failed]]:
        """Generate for requests with the same options in one call, or for each alone if one of them is refused."""
        first = group[0][2]
        seed = first.seeds[group[0][1]]
        try:
            prompts = [self.prompt(request.ids) for _, _, request in group]
            body = self.dialect.generation(first, prompts[0] if len(prompts) == 1 else prompts, seed, stream=False)
            reply = await self.connection.post(self.dialect.path, body)
            found = sorted(parts(reply, self.dialect.id_source), key=lambda part: part.index)
            _check_indices([part.index for part in found], len(group))
            # The counts of a call are those of all its prompts, in some servers; they are checked where it has one.
            counts = usage_of(reply) if len(group) == 1 else None
        except (CallFailed, *MALFORMED) as error:
            if len(group) == 1 or not _is_of_an_item(error):
                for index, sample, _ in group:
                    yield index, sample, self._failed(error)
                return
            for one in group:
                async for result in self.generate([one]):
                    yield result
            return
        for part, (index, sample, request) in zip(found, group, strict=True):
            yield index, sample, _result(part, request, counts, self.dialect)

    async def stream(self, request: GenerateRequest, listener: Listener) -> None:
        """Generate one text and tell the listener of each event."""
        whole, counts = Part(), Usage()
        result: Generated | Failed
        listener.on_start(time.perf_counter())
        try:
            body = self.dialect.generation(request, self.prompt(request.ids), request.seeds[0], stream=True)
            async with aclosing(self.connection.events(self.dialect.path, body)) as events:
                async for at_s, event in events:
                    counts = usage_of(event) or counts
                    for part in parts(event, self.dialect.id_source):
                        whole = whole.followed_by(part)
                        if len(whole.ids) > request.max_new_tokens:
                            raise CallFailed(_too_many(whole, request))
                        if part.ids:
                            listener.on_tokens(part.ids, at_s)
            if whole.finished_by is None:
                raise CallFailed("the stream broke off before the text ended")
            result = _result(whole, request, counts, self.dialect)
        except asyncio.CancelledError:
            listener.on_end(Failed("cancelled", is_cancelled=True), counts, time.perf_counter())
            raise
        except Exception as error:  # whatever it is, somebody waits for the end
            result = self._failed(error)
        listener.on_end(result, counts, time.perf_counter())

    async def streamed(self, group: TextGroup) -> AsyncIterator[tuple[int, int, Generated | Failed]]:
        """Generate one text by a stream."""
        (index, sample, request) = group[0]
        keeper = _Keeper()
        await self.stream(replace(request, seeds=(request.seeds[sample],)), keeper)
        assert keeper.result is not None
        yield index, sample, keeper.result

    def _failed(self, error: Exception) -> Failed:
        reason = (
            str(error)
            if isinstance(error, CallFailed)
            else f"the reply has an unknown form ({type(error).__name__}: {error})"
        )
        return Failed(self.connection.hidden(" ".join(reason.split())[:300]))


class _Keeper:
    """A listener that keeps the result alone."""

    def __init__(self) -> None:
        self.result: Generated | Failed | None = None

    def on_start(self, at_s: float) -> None:
        pass

    def on_tokens(self, ids: Sequence[int], at_s: float) -> None:
        pass

    def on_end(self, result: Generated | Failed, usage: Usage, at_s: float) -> None:
        self.result = result


def score_groups(requests: Sequence[ScoreRequest], size: int) -> list[ScoreGroup]:
    """Return the requests in calls of `size`."""
    pairs = list(enumerate(requests))
    return [pairs[start : start + size] for start in range(0, len(pairs), size)]


def next_token_groups(requests: Sequence[ScoreRequest]) -> list[ScoreGroup]:
    """Return the requests by the tokens before their last one."""
    groups: dict[tuple[int, ...], list[tuple[int, ScoreRequest]]] = {}
    for index, request in enumerate(requests):
        groups.setdefault((*request.prefix, *request.ids[:-1]), []).append((index, request))
    return list(groups.values())


def text_groups(requests: Sequence[GenerateRequest], size: int) -> list[TextGroup]:
    """Return each sample of each request, in calls of at most `size` with the same options and seed."""
    open_groups: dict[object, list[tuple[int, int, GenerateRequest]]] = {}
    groups: list[TextGroup] = []
    for index, request in enumerate(requests):
        for sample, seed in enumerate(request.seeds):
            sampling = (request.temperature, request.top_p, seed) if request.temperature > 0 else ()
            key = (request.max_new_tokens, request.stop, request.ignore_eos, sampling)
            group = open_groups.setdefault(key, [])
            group.append((index, sample, request))
            if len(group) == size:
                groups.append(open_groups.pop(key))
    return groups + list(open_groups.values())


def _by_index(reply: Any, count: int) -> list[Any]:
    """Return the choices of a reply in the order of the prompts."""
    check_error(reply)
    choices = sorted(reply["choices"], key=lambda choice: int(choice["index"]))
    _check_indices([choice["index"] for choice in choices], count)
    return choices


def _check_indices(found: Sequence[int], count: int) -> None:
    if list(found) != list(range(count)):
        answered = len(set(found) & set(range(count)))
        twice = ", some of them twice" if len(set(found)) < len(found) else ""
        raise CallFailed(f"the server answered {answered} of {count} prompts of a call{twice}")


def _result(part: Part, request: GenerateRequest, counts: Usage | None, dialect: Dialect) -> Generated | Failed:
    """Return the text of a finished part, or why it cannot be trusted."""
    ids, finished_by = part.ids, _ENDS.get(str(part.finished_by))
    if finished_by is None:
        return Failed(f"the server gives {part.finished_by!r} as the reason for the end of the text")
    if finished_by == "stop" and not request.stop:
        finished_by = "eos"
    counted = counts.new_tokens if counts is not None and dialect.id_source is not None else None
    unsent = finished_by != "length"  # a token that ends the text may be counted and not sent
    if counted is not None and not counted - unsent <= len(ids) <= counted:
        return Failed(f"the server counts {counted} new tokens and sent {len(ids)}")
    if len(ids) > request.max_new_tokens:
        return Failed(_too_many(part, request))
    if counts is not None and counts.prompt_tokens not in (None, len(request.ids)):
        return Failed(f"the server counts {counts.prompt_tokens} tokens in a prompt of {len(request.ids)}")
    return Generated(tuple(ids), part.text, finished_by)


def _too_many(part: Part, request: GenerateRequest) -> str:
    return f"the server sent {len(part.ids)} tokens, {request.max_new_tokens} were asked for"


def _is_of_an_item(error: Exception) -> bool:
    return isinstance(error, NoText) or (isinstance(error, CallFailed) and error.status in _OF_ITEM)
