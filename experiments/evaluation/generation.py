"""Generation: requests in, texts out. The next request takes the place of a finished row in the same cache.

A row's text depends on its own prompt, options and seed, and not on the other rows (up to float32 rounding).
Shapes: B rows, T tokens, S steps, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from runtime_matrix.experiments.config.schema import GenerationConfig
from runtime_matrix.experiments.evaluation.batching import batches, pad
from runtime_matrix.experiments.evaluation.finite import check_numbers, read_highest, tied
from runtime_matrix.experiments.evaluation.requests import Generated, GenerateRequest
from runtime_matrix.experiments.evaluation.rows import Piece, Row, choose
from runtime_matrix.experiments.evaluation.speculation import Drafter, History
from runtime_matrix.runtimes.base import Runtime, Traits

_READ_EVERY_ON_GPU = 8  # steps; each reading waits for the device, but finished rows keep running until it

OnDone = Callable[[int, int, Generated], None]  # (request, sample, result), called as soon as a text is finished


@dataclass
class GenerationReport:
    """Counts of the work of generation."""

    forwards: int = 0
    steps: int = 0  # forwards after prefill
    readings: int = 0  # reads of tokens by the host; each waits for the device
    row_steps: int = 0  # sum over all steps of the active rows
    drafted: int = 0
    accepted: int = 0
    tied_first: int = 0  # texts whose first token was exactly tied with another; later tokens are not checked
    is_counted: bool = True  # False: the engine does not tell what it ran

    def figures(self) -> dict[str, float | None]:
        """Return the figures of the record; accepted tokens are None without speculation."""
        speculated = self.drafted > 0
        counts = {
            "forwards": self.forwards,
            "steps": self.steps,
            "step_rows": self.row_steps,
            "readings": self.readings,
            "tied_first_tokens": self.tied_first,
            "drafted_tokens": self.drafted,
        }
        return {
            **{name: count if self.is_counted else None for name, count in counts.items()},
            "accepted_tokens_per_step": self.accepted / self.row_steps if speculated else None,
        }


def generate(
    runtime: Runtime,
    traits: Traits,
    requests: Sequence[GenerateRequest],
    new_text: Callable[[Sequence[int]], Piece],
    eos_ids: Sequence[int] = (),
    options: GenerationConfig | None = None,
    on_done: OnDone = lambda request, sample, result: None,
    report: GenerationReport | None = None,
    drafter: Drafter | None = None,
) -> list[list[Generated]]:
    """Return one list per request with one text per seed, in their order.

    `new_text(prompt ids)` returns the function that turns tokens into text. `drafter` proposes tokens for greedy rows
    and never changes their texts. Raises FloatingPointError for logits that are not finite.
    """
    options = options or GenerationConfig()
    loop = _Generation(runtime, traits, requests, new_text, frozenset(eos_ids), options, on_done, drafter)
    loop.report = report or loop.report
    return loop.run()


class _Generation:
    def __init__(
        self,
        runtime: Runtime,
        traits: Traits,
        requests: Sequence[GenerateRequest],
        new_text: Callable[[Sequence[int]], Piece],
        eos_ids: frozenset[int],
        options: GenerationConfig,
        on_done: OnDone,
        drafter: Drafter | None,
    ):
        self.report, self.drafter = GenerationReport(), drafter
        self._runtime, self._traits, self._requests = runtime, traits, requests
        self._new_text, self._eos_ids, self._on_done = new_text, eos_ids, on_done
        self._refill, guessed = options.refill, drafter.tokens if drafter is not None else 0
        self._results: list[list[Generated | None]] = [[None] * len(request.seeds) for request in requests]
        # Prompts of similar length are prefilled together; the samples of a prompt are adjacent and share its prefill.
        order = sorted(range(len(requests)), key=lambda i: (-len(requests[i].ids), i))
        self._waiting = deque((index, sample) for index in order for sample in range(len(requests[index].seeds)))
        pad_tokens = traits.buckets.pad_tokens
        self._capacity = max((pad_tokens(len(r.ids)) + r.max_new_tokens + guessed for r in requests), default=0)
        fitting = max(1, options.token_budget // max(1, self._capacity))
        self._max_rows = min(len(self._waiting), fitting, traits.max_batch or fitting)
        self._rows: list[Row | None] = []
        self._next: list[int] = []  # the next input token of each row
        self._cache: Any = None
        self._host_sync_interval, self._read_every = options.host_sync_interval, 1

    def run(self) -> list[list[Generated]]:
        """Generate until no request waits and no row is active."""
        while self._waiting or self._active():
            self._fill()
            self._shrink()
            if self._active():
                self._step()
        return [[result for result in results if result is not None] for results in self._results]

    def _active(self) -> int:
        return sum(row is not None for row in self._rows)

    def _fill(self) -> None:
        """Prefill waiting requests into free rows, once enough rows are free to be worth a forward pass."""
        free = self._max_rows - self._active()
        if not self._waiting or not self._is_worth_filling(free):
            return
        taken = [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
        if free == self._max_rows:
            padded = self._traits.buckets.pad_batch(len(taken))
            self._cache = self._runtime.new_cache(padded, self._capacity)
            self._rows, self._next = [None] * padded, [0] * padded
        prompts = list(dict.fromkeys(index for index, _ in taken))
        lengths = [len(self._requests[index].ids) for index in prompts]
        for part in batches(lengths, self._traits, self._traits.batch_tokens, sort=False):
            group = [prompts[at] for at in part]
            self._prefill(group, [text for text in taken if text[0] in group])

    def _is_worth_filling(self, free: int) -> bool:
        if free == self._max_rows or not self._refill:
            return free == self._max_rows
        tokens = free * len(self._requests[self._waiting[0][0]].ids)
        return free > 0 and (free >= self._max_rows // 4 or tokens >= self._traits.batch_tokens // 4)

    def _prefill(self, prompts: Sequence[int], taken: Sequence[tuple[int, int]]) -> None:
        """Run the prompts and start the texts, given as (request, sample), in free rows."""
        ids_BT, lengths = pad([self._requests[index].ids for index in prompts], self._traits)
        fresh = self._runtime.new_cache(len(lengths), ids_BT.shape[1])
        logits_BV = self._runtime.forward(ids_BT, lengths, fresh).logits_BKV[:, 0]
        self.report.forwards += 1
        self._read_every = self._host_sync_interval or (_READ_EVERY_ON_GPU if logits_BV.is_cuda else 1)
        rows = [Row(i, s, self._requests[i], self._new_text(self._requests[i].ids)) for i, s in taken]
        for row in rows:
            # Only greedy rows speculate: acceptance sampling would draw other texts from the same seeds.
            if self.drafter is not None and row.request.temperature == 0:
                row.history = History(row.request.ids)
        source = [prompts.index(index) for index, _ in taken]
        places = [at for at, row in enumerate(self._rows) if row is None][: len(rows)]
        self._cache.replace(places, fresh if source == list(range(len(lengths))) else fresh.select(source))
        for place, row in zip(places, rows, strict=True):
            self._rows[place] = row
        tied_B = tied(logits_BV, logits_BV.amax(dim=1)).tolist()
        self.report.tied_first += sum(tied_B[at] for at in source)
        first_BV = logits_BV if source == list(range(len(lengths))) else logits_BV[source]
        self._take(places, first_BV, range(len(places)))

    def _shrink(self) -> None:
        """Drop free rows when no request waits and a smaller batch holds the active rows."""
        active = [at for at, row in enumerate(self._rows) if row is not None]
        size = self._traits.buckets.pad_batch(len(active))
        if self._waiting or not active or size > 3 * len(self._rows) // 4:
            return
        sources = active + [active[0]] * (size - len(active))
        self._cache = self._cache.select(sources)
        self._rows = [self._rows[at] if i < len(active) else None for i, at in enumerate(sources)]
        self._next = [self._next[at] for at in sources]

    def _step(self) -> None:
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
        if self.drafter is not None or any(row.request.temperature > 0 for row in rows):
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
        sampled = [at for at in places if (row := self._rows[at]) is not None and row.request.temperature > 0]
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
        for at, token in zip(places, choose(logits_BV, rows), strict=True):
            self._keep(at, token)

    def _keep(self, at: int, token: int) -> bool:
        """Append a token to a row; return whether the row is finished."""
        row = self._rows[at]
        assert row is not None
        result = row.add(token, self._eos_ids)
        self._next[at] = token
        if result is not None:
            self._rows[at] = None
            self._results[row.index][row.sample] = result
            self._on_done(row.index, row.sample, result)
        return result is not None


def _agreed(guess: Sequence[int], predicted: Sequence[int]) -> int:
    return next((i for i, pair in enumerate(zip(guess, predicted, strict=False)) if pair[0] != pair[1]), len(guess))
