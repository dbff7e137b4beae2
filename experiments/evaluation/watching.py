"""What a scheduler tells of a request while its texts grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime_matrix.experiments.evaluation.likeliest import TokenLogprobs
from runtime_matrix.experiments.evaluation.requests import Failed, Generated, GenerateRequest
from runtime_matrix.runtimes.requests import Listener, Usage


@dataclass(frozen=True)
class Progress:
    """What a step added to one text."""

    sample: int  # index of its seed
    ids: Sequence[int]
    text: str
    end_id: int | None  # the end-of-text token, if it has ended the text; it is none of `ids`
    likeliest: Sequence[TokenLogprobs]  # of `ids` and `end_id`; empty unless asked for
    result: Generated | None  # set once the text has ended
    at_s: float  # of `time.perf_counter`


class Watcher(Protocol):
    """Receives the events of one request in order, on the thread of the scheduler. It must return at once."""

    def on_start(self, at_s: float) -> None:
        """The request was admitted."""
        ...

    def on_progress(self, progress: Progress) -> None:
        """A text has more tokens, or has ended."""
        ...

    def on_end(self, failure: Failed | None, at_s: float) -> None:
        """All texts have ended, or the request has failed. Called once."""
        ...


def held(text: str, stops: Sequence[str]) -> int:
    """Return how many characters at the end of a text may be the beginning of a stop string."""
    lengths = [size for stop in stops for size in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:size])]
    return max(lengths, default=0)


class Listening:
    """Passes the events of a request with one seed to a listener."""

    def __init__(self, request: GenerateRequest, listener: Listener):
        self._request, self._listener = request, listener
        self._result: Generated | None = None
        self._tokens = 0

    def on_start(self, at_s: float) -> None:
        self._listener.on_start(at_s)

    def on_progress(self, progress: Progress) -> None:
        self._tokens += len(progress.ids)
        self._result = progress.result
        if progress.ids:
            self._listener.on_tokens(progress.ids, progress.at_s)

    def on_end(self, failure: Failed | None, at_s: float) -> None:
        result = failure or self._result
        assert result is not None
        self._listener.on_end(result, Usage(len(self._request.ids), self._tokens, 0), at_s)
