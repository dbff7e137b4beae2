"""The tokens of several streams of an engine that takes whole requests, as they arrive from its threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from runtime_matrix.experiments.evaluation.requests import Failed, Generated
from runtime_matrix.runtimes.requests import Usage


class RequestFailed(RuntimeError):
    """A timed request has no result. The message is one line."""


class Arrivals:
    """The tokens of several streams as they arrive."""

    def __init__(self, rows: int, new_tokens: int):
        self.ids: list[list[int]] = [[] for _ in range(rows)]
        self._at_s: list[list[float]] = [[] for _ in range(rows)]  # one time per token
        self._new_tokens = new_tokens
        self._results: list[Generated | Failed | None] = [None] * rows
        self._changed = threading.Condition()

    def add(self, row: int, ids: Sequence[int], at_s: float) -> None:
        with self._changed:
            self.ids[row].extend(ids)
            before_s = self._at_s[row][-1] if self._at_s[row] else at_s
            self._at_s[row] += [before_s + (at_s - before_s) * n / len(ids) for n in range(1, len(ids) + 1)]
            self._changed.notify()

    def end(self, row: int, result: Generated | Failed) -> None:
        with self._changed:
            self._results[row] = result
            self._changed.notify()

    def wait_for(self, tokens: int) -> None:
        """Wait until each row has so many tokens; RequestFailed if one ends before."""
        with self._changed:
            self._changed.wait_for(lambda: all(len(ids) >= tokens for ids in self.ids) or self._broken(tokens))
            broken = self._broken(tokens)
        if broken is not None:
            raise RequestFailed(broken)

    def all_ended(self) -> list[list[int]]:
        """Wait for the ends, and return the tokens of each row; RequestFailed if one has no result."""
        with self._changed:
            self._changed.wait_for(lambda: all(result is not None for result in self._results))
        for ids, result in zip(self.ids, self._results, strict=True):
            if isinstance(result, Failed):
                raise RequestFailed(result.reason)
            if len(ids) != self._new_tokens:
                raise RequestFailed(f"the server sent {len(ids)} tokens, {self._new_tokens} were asked for")
        return self.ids

    def steps_at_s(self) -> list[float]:
        """Return when all rows had each token."""
        return [max(row[step] for row in self._at_s) for step in range(self._new_tokens)]

    def _broken(self, tokens: int) -> str | None:
        for ids, result in zip(self.ids, self._results, strict=True):
            if isinstance(result, Failed):
                return result.reason
            if result is not None and len(ids) < tokens:
                return f"a timed text ended after {len(ids)} of {self._new_tokens} tokens"
        return None


class ArrivingRow:
    """Adds what arrives for one stream."""

    def __init__(self, arrivals: Arrivals, row: int):
        self._arrivals, self._row = arrivals, row

    def on_start(self, at_s: float) -> None:
        """The time is taken where the step is awaited."""

    def on_tokens(self, ids: Sequence[int], at_s: float) -> None:
        """Add the tokens."""
        self._arrivals.add(self._row, ids, at_s)

    def on_end(self, result: Generated | Failed, usage: Usage, at_s: float) -> None:
        """Note the end."""
        self._arrivals.end(self._row, result)
