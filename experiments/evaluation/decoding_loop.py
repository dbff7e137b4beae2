"""The decoding loop: rows that start, take steps together, and end, in one cache.

Requests may be added and removed between steps. `generation.py` adds them all at once, `continuous.py` as they arrive.
Shapes: B rows, T tokens, S steps, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from runtime_matrix.experiments.config.schema import GenerationConfig
from runtime_matrix.experiments.evaluation.batching import batches
from runtime_matrix.experiments.evaluation.finite import check_numbers, read_highest, tied
from runtime_matrix.experiments.evaluation.generation_report import GenerationReport
from runtime_matrix.experiments.evaluation.likeliest import likeliest
from runtime_matrix.experiments.evaluation.prefill import generating, passes, prefill, prefill_room
from runtime_matrix.experiments.evaluation.requests import Generated, GenerateRequest
from runtime_matrix.experiments.evaluation.rows import Piece, Row, choose
from runtime_matrix.experiments.evaluation.speculation import Drafter, History
from runtime_matrix.runtimes.base import Runtime, Traits

_READ_EVERY_ON_GPU = 8  # steps; each reading waits for the device, but finished rows keep running until it

OnEnd = Callable[[Row, Generated], None]  # a text is finished
OnToken = Callable[[Row], None]  # a text has one more token, and goes on


@dataclass(frozen=True)
class LoopSize:
    """The size of the cache. With `starts_at_once` a request never waits for others that could share its prefill."""

    rows: int  # at most
    capacity: int = 0  # tokens per row, at least; it grows where a request needs more
    starts_at_once: bool = False


def room_of(request: GenerateRequest, traits: Traits, drafter: Drafter | None, chunk: int | None) -> int:
    """Return the tokens for which a row of the cache needs room. `chunk`: tokens per forward pass of a prompt."""
    guessed = drafter.tokens if drafter is not None else 0
    return prefill_room(len(request.ids), traits, chunk) + request.max_new_tokens + guessed


class DecodingLoop:
    """Generates the texts of the requests that were added, as `fill` and `step` are called in turn.

    `new_text(prompt ids)` returns the function that turns tokens into text. After an exception it cannot be used.
    """

    def __init__(
        self,
        runtime: Runtime,
        traits: Traits,
        new_text: Callable[[Sequence[int]], Piece],
        eos_ids: Sequence[int],
        options: GenerationConfig,
        size: LoopSize,
        on_end: OnEnd,
        drafter: Drafter | None = None,
        on_token: OnToken | None = None,
    ):
        self.report, self.drafter = GenerationReport(), drafter
        self._runtime, self._traits = generating(runtime, traits, options), traits
        self._chunk = options.prefill_chunk
        self._new_text, self._eos_ids = new_text, frozenset(eos_ids)
        self._on_end, self._on_token = on_end, on_token
        self._refill, self._size, self._max_rows = options.refill, size, size.rows
        self._requests: dict[int, GenerateRequest] = {}
        self._alternatives: dict[int, int] = {}
        self._waiting: deque[tuple[int, int]] = deque()  # (request, sample)
        self._capacity = size.capacity
        self._rows: list[Row | None] = []
        self._next: list[int] = []  # the next input token of each row
        self._cache: Any = None
        self._host_sync_interval, self._read_every = options.host_sync_interval, 1

    def add(self, index: int, request: GenerateRequest, alternatives: int | None = None) -> None:
        """Add a request; its samples are adjacent and share its prefill. `index` tells it from all others.

        With `alternatives`, its rows keep the log-probability of each token and of so many likeliest tokens.
        """
        self._requests[index] = request
        if alternatives is not None:
            self._alternatives[index] = alternatives
        self._waiting.extend((index, sample) for sample in range(len(request.seeds)))

    def remove(self, index: int) -> None:
        """Remove what is left of a request, and free its rows."""
        self._waiting = deque(text for text in self._waiting if text[0] != index)
        self._rows = [None if row is not None and row.index == index else row for row in self._rows]
        self.forget(index)

    def forget(self, index: int) -> None:
        """Free the memory of a request whose texts have all ended."""
        self._requests.pop(index, None)
        self._alternatives.pop(index, None)

    @property
    def is_idle(self) -> bool:
        """Whether no text waits or is being generated."""
        return not self._waiting and not self.active

    @property
    def active(self) -> int:
        """The number of texts that are being generated."""
        return sum(row is not None for row in self._rows)

    @property
    def waiting(self) -> int:
        """The number of texts without a row."""
        return len(self._waiting)

    def fill(self) -> None:
        """Prefill waiting requests into free rows, once enough rows are free to be worth a forward pass."""
        free = self._max_rows - self.active
        if not self._waiting or not self._is_worth_filling(free):
            return
        taken = [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
        self._make_room(taken, is_empty=free == self._max_rows)
        prompts = list(dict.fromkeys(index for index, _ in taken))
        lengths = [len(self._requests[index].ids) for index in prompts]
        for part in batches(lengths, self._traits, self._traits.batch_tokens, sort=False):
            group = [prompts[at] for at in part]
            self._prefill(group, [text for text in taken if text[0] in group])

    def _make_room(self, taken: Sequence[tuple[int, int]], is_empty: bool) -> None:
        """Give the cache a free row for each text, with room for its tokens."""
        needed = max(room_of(self._requests[index], self._traits, self.drafter, self._chunk) for index, _ in taken)
        if is_empty:
            padded = self._traits.buckets.pad_batch(len(taken))
            self._capacity = max(self._size.capacity, needed)
            self._cache = self._runtime.new_cache(padded, self._capacity)
            self._rows, self._next = [None] * padded, [0] * padded
            return
        if len(self._rows) - self.active < len(taken):
            self._pack(self._traits.buckets.pad_batch(self.active + len(taken)))
        if needed > self._capacity:
            self._capacity = needed
            larger = self._runtime.new_cache(len(self._rows), needed)
            larger.replace(range(len(self._rows)), self._cache)
            self._cache = larger

    def _is_worth_filling(self, free: int) -> bool:
        if free == self._max_rows or not self._refill:
            return free == self._max_rows
        tokens = free * len(self._requests[self._waiting[0][0]].ids)
        is_worth = free >= self._max_rows // 4 or tokens >= self._traits.batch_tokens // 4
        return free > 0 and (self._size.starts_at_once or is_worth)

    def _prefill(self, prompts: Sequence[int], taken: Sequence[tuple[int, int]]) -> None:
        """Run the prompts and start the texts, given as (request, sample), in free rows."""
        ids = [self._requests[index].ids for index in prompts]
        logits_B1V, fresh = prefill(self._runtime, self._traits, ids, 0, self._chunk)
        logits_BV = logits_B1V[:, 0]
        self.report.forwards += passes(max(map(len, ids)), self._chunk)
        self._read_every = self._host_sync_interval or (_READ_EVERY_ON_GPU if logits_BV.is_cuda else 1)
        rows = [Row(i, s, self._requests[i], self._new_text(self._requests[i].ids)) for i, s in taken]
        for row in rows:
            row.alternatives = self._alternatives.get(row.index)
            # Only greedy rows speculate: acceptance sampling would draw other texts from the same seeds.
            if self.drafter is not None and not row.needs_host:
                row.history = History(row.request.ids)
        source = [prompts.index(index) for index, _ in taken]
        places = [at for at, row in enumerate(self._rows) if row is None][: len(rows)]
        is_whole = source == list(range(len(logits_BV)))
        self._cache.replace(places, fresh if is_whole else fresh.select(source))
        for place, row in zip(places, rows, strict=True):
            self._rows[place] = row
        tied_B = tied(logits_BV, logits_BV.amax(dim=1)).tolist()
        self.report.tied_first += sum(tied_B[at] for at in source)
        first_BV = logits_BV if is_whole else logits_BV[source]
        self._take(places, first_BV, range(len(places)))

    def _shrink(self) -> None:
        """Drop free rows when no request waits and a smaller batch holds the active rows."""
        active = [at for at, row in enumerate(self._rows) if row is not None]
        size = self._traits.buckets.pad_batch(len(active))
        if self._waiting or not active or size > 3 * len(self._rows) // 4:
            return
        self._pack(size)

    def _pack(self, size: int) -> None:
        """Move the active rows to the front of a cache of `size` rows."""
        active = [at for at, row in enumerate(self._rows) if row is not None]
        sources = active + [active[0]] * (size - len(active))
        self._cache = self._cache.select(sources)
        self._rows = [self._rows[at] if i < len(active) else None for i, at in enumerate(sources)]
        self._next = [self._next[at] for at in sources]

    def step(self) -> None:
        """Take one step, or several where tokens are read together."""
        self._shrink()
        if not self.active:
            return
        lengths = self._cache.lengths
        if any(row is None and length for row, length in zip(self._rows, lengths, strict=True)):
            # Free rows would otherwise grow beyond their capacity.
            self._cache.rewind([length if row else 0 for row, length in zip(self._rows, lengths, strict=True)])
        places = [at for at, row in enumerate(self._rows) if row is not None]
        self.report.forwards += 1
        self.report.steps += 1
        self.report.row_steps += len(places)
        guesses = self._guesses()
        if any(guesses):
            self._verify(places, guesses)
            return
        steps = self._steps_unread(places)
        if steps > 1:
            self._run_ahead(places, steps)
            return
        tokens_B1 = torch.tensor(self._next)[:, None]
        logits_BV = self._runtime.forward(tokens_B1, [1] * len(self._rows), self._cache).logits_BKV[:, 0]
        self._take(places, logits_BV, places)

    def _steps_unread(self, places: Sequence[int]) -> int:
        """Return the number of steps that need no host: 1 with sampling or speculation, else until a row is full."""
        rows = [row for at in places if (row := self._rows[at]) is not None]
        if self.drafter is not None or any(row.needs_host for row in rows):
            return 1
        return min([self._read_every, *(row.request.max_new_tokens - len(row.ids) for row in rows)])

    def _run_ahead(self, places: Sequence[int], steps: int) -> None:
        """Run several greedy steps on the device and read all tokens at once; tokens after the end are dropped."""
        tokens_B1, columns = torch.tensor(self._next)[:, None], []
        for _ in range(steps):
            logits_BV = self._runtime.forward(tokens_B1, [1] * len(self._rows), self._cache).logits_BKV[:, 0]
            highest_B1, tokens_B1 = logits_BV.max(dim=1, keepdim=True)
            columns += [highest_B1.double(), tokens_B1.double()]  # ids are exact in float64
        self.report.forwards += steps - 1
        self.report.steps += steps - 1
        self.report.row_steps += (steps - 1) * len(places)
        self.report.readings += 1
        read_BS: list[list[float]] = torch.cat(columns, dim=1).tolist()
        check_numbers([value for at in places for value in read_BS[at][::2]], "a generated token")
        for at in places:
            for token in read_BS[at][1::2]:
                if self._keep(at, int(token)):
                    break

    def _guesses(self) -> list[list[int]]:
        if self.drafter is None:
            return []
        histories = [row.history if row is not None else None for row in self._rows]
        if not any(histories):
            return []
        remaining = [row.request.max_new_tokens - len(row.ids) if row is not None else 0 for row in self._rows]
        # The runtime adds one token of its own after a guess, so a guess is shorter than what is left.
        return [
            guess[: max(0, count - 1)] for guess, count in zip(self.drafter.propose(histories), remaining, strict=True)
        ]

    def _verify(self, places: Sequence[int], guesses: list[list[int]]) -> None:
        """Run each row's token and its guess at once; keep the guess up to the first token that differs."""
        assert self.drafter is not None
        rows, tokens = len(self._rows), 1 + self.drafter.tokens  # one shape for all guesses
        ids_BT = torch.zeros(rows, tokens, dtype=torch.long)
        for at, guess in enumerate(guesses):
            ids_BT[at, : 1 + len(guess)] = torch.tensor([self._next[at], *guess])
        before = self._cache.lengths
        at_BT = torch.arange(tokens).expand(rows, tokens).contiguous()
        lengths = [1 + len(guess) for guess in guesses]
        logits_BTV = self._runtime.forward(ids_BT, lengths, self._cache, at_BT).logits_BKV
        self.report.readings += 1
        highest, predicted = read_highest(logits_BTV)
        for at in places:  # positions after a guess are padding
            check_numbers(highest[at][: lengths[at]], "a generated token")
        agreed = [_agreed(guess, predicted[at]) for at, guess in enumerate(guesses)]
        self._cache.rewind([length + 1 + count for length, count in zip(before, agreed, strict=True)])
        sampled = [at for at in places if (row := self._rows[at]) is not None and row.needs_host]
        if sampled:
            self._take(sampled, logits_BTV[:, 0], sampled)
        for at in set(places) - set(sampled):
            self.report.drafted += len(guesses[at])
            self.report.accepted += agreed[at]
            for token in predicted[at][: 1 + agreed[at]]:
                if self._keep(at, token):
                    break

    def _take(self, places: Sequence[int], logits_BV: torch.Tensor, sources: Sequence[int]) -> None:
        """Choose a token for each place from its row of the logits, and finish texts that end with it."""
        rows = {source: row for at, source in zip(places, sources, strict=True) if (row := self._rows[at]) is not None}
        self.report.readings += 1
        tokens = choose(logits_BV, rows)
        self._note_likeliest(logits_BV, rows, tokens)
        for at, token in zip(places, tokens, strict=True):
            self._keep(at, token)

    def _note_likeliest(self, logits_BV: torch.Tensor, rows: Mapping[int, Row], tokens: Sequence[int]) -> None:
        for (source, row), token in zip(rows.items(), tokens, strict=True):
            if row.alternatives is not None:
                row.likeliest += likeliest(logits_BV[source : source + 1], [token], row.alternatives)

    def _keep(self, at: int, token: int) -> bool:
        """Append a token to a row; return whether the row is finished."""
        row = self._rows[at]
        assert row is not None
        result = row.add(token, self._eos_ids)
        self._next[at] = token
        if result is not None:
            self._rows[at] = None
            self._on_end(row, result)
        elif self._on_token is not None:
            self._on_token(row)
        return result is not None


def _agreed(guess: Sequence[int], predicted: Sequence[int]) -> int:
    return next((i for i, pair in enumerate(zip(guess, predicted, strict=False)) if pair[0] != pair[1]), len(guess))
