"""Answer questions: wait for the scheduler's events in asyncio, and cancel what nobody waits for any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.evaluation.admission import Busy, Closed
from runtime_matrix.experiments.evaluation.likeliest import TokenLogprobs
from runtime_matrix.experiments.evaluation.prompt_logprobs import describe_prompts
from runtime_matrix.experiments.evaluation.requests import Failed
from runtime_matrix.experiments.evaluation.watching import Progress
from runtime_matrix.experiments.serving.errors import ApiError
from runtime_matrix.experiments.serving.questions import Question
from runtime_matrix.experiments.serving.replies import Collected, Form
from runtime_matrix.experiments.serving.served import Served
from runtime_matrix.runtimes.requests import Stream

T = TypeVar("T")
_Event = tuple[int, Progress | Failed | None]  # (index of the prompt, what happened); None: its texts have ended


async def answer(question: Question, served: Served) -> JsonObject:
    """Return the whole reply. When cancelled, the texts are cancelled too."""
    described = await _described(question, served)
    texts = [Collected() for _ in range(len(question.prompts) * len(question.seeds))]
    async for index, progress in _progress(question, served):
        _collect(texts[index], progress)
    return Form(question, served).reply(texts, described)


async def stream(question: Question, served: Served) -> AsyncIterator[bytes]:
    """Yield the events of a stream. When closed, the texts are cancelled. Raises ApiError before the first event."""
    form, samples = Form(question, served), len(question.prompts) * len(question.seeds)
    characters, tokens = [0] * samples, [0] * samples
    begun = False
    try:
        async for index, progress in _progress(question, served):
            if not begun and question.is_chat:
                yield _event(*(form.role(choice) for choice in range(samples)))
            begun = True
            added = Collected()
            _collect(added, progress)
            chunk = form.chunk(index, added, characters[index])
            characters[index] += len(added.text)
            tokens[index] += len(added.ids)
            if question.continuous_usage:
                chunk["usage"] = form.usage(tokens)
            yield _event(chunk)
    except ApiError as error:
        if not begun:
            raise
        yield _event(error.body())
    if question.include_usage:
        yield _event(form.last(tokens))
    yield b"data: [DONE]\n\n"


async def computed(parts: Future[list[Any]]) -> list[Any]:
    """Return the parts of work on the thread of the runtime. Raises ApiError."""
    try:
        return await asyncio.wrap_future(parts)
    except Closed as error:
        raise ApiError(str(error), status=503) from None
    except Exception as error:  # runtimes raise anything
        raise ApiError(_line(error), status=500) from None


def admitted(work: Callable[[], T]) -> T:
    """Call what admits a request. Raises ApiError if it is not admitted."""
    try:
        return work()
    except Busy as error:
        raise ApiError(str(error), status=429) from None
    except Closed as error:
        raise ApiError(str(error), status=503) from None


async def _described(question: Question, served: Served) -> list[Sequence[TokenLogprobs]] | None:
    """Return the description of each prompt's tokens; None if they are not wanted."""
    wanted = question.described
    if wanted is None:
        return None

    def parts() -> Iterable[Any]:
        return describe_prompts(served.runtime, served.traits, question.prompts, wanted)

    work = admitted(lambda: served.scheduler.work(lambda: iter(parts()), len(question.prompts)))
    by_index = {index: row for part in await computed(work) for index, row in part}
    return [by_index[index] for index in range(len(question.prompts))]


async def _progress(question: Question, served: Served) -> AsyncIterator[tuple[int, Progress]]:
    """Yield (index of the choice, what was added); cancel what is left when closed. Raises ApiError."""
    events: asyncio.Queue[_Event] = asyncio.Queue()
    requests = question.requests
    loop = asyncio.get_running_loop()
    watchers = [_Bridge(loop, events, prompt) for prompt in range(len(requests))]
    streams: Sequence[Stream] = ()
    if requests:
        streams = admitted(lambda: served.scheduler.submit(requests, watchers, question.alternatives))
    running = len(streams)
    try:
        while running:
            prompt, what = await events.get()
            if isinstance(what, Progress):
                yield prompt * len(question.seeds) + what.sample, what
                continue
            running -= 1
            if what is not None:
                raise ApiError(what.reason, status=503 if what.is_cancelled else 500)
    finally:
        if running:
            for handle in streams:
                handle.cancel()


class _Bridge:
    """Passes the events of a request from the scheduler's thread to asyncio."""

    def __init__(self, loop: asyncio.AbstractEventLoop, events: asyncio.Queue[_Event], prompt: int):
        self._loop, self._events, self._prompt = loop, events, prompt

    def on_start(self, at_s: float) -> None:
        """Nothing waits for it."""

    def on_progress(self, progress: Progress) -> None:
        """Pass it on."""
        self._put(progress)

    def on_end(self, failure: Failed | None, at_s: float) -> None:
        """Pass it on."""
        self._put(failure)

    def _put(self, what: Progress | Failed | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._events.put_nowait, (self._prompt, what))


def _collect(text: Collected, progress: Progress) -> None:
    text.text += progress.text
    text.ids += progress.ids
    if progress.end_id is not None:
        text.ids.append(progress.end_id)  # as in vLLM: clients count it, and lm-eval drops the last token
    text.likeliest += progress.likeliest
    text.result = progress.result


def _event(*bodies: JsonObject) -> bytes:
    return b"".join(b"data: " + msgspec.json.encode(body) + b"\n\n" for body in bodies)


def _line(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text}"[:300]
