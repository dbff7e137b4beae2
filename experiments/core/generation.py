"""Generation: requests in, texts out. Rows that finish make room for the next request, in the same cache.

A row's text depends on its own prompt, options and seed, never on the rows beside it (up to rounding: float32).
Shapes: B rows, K wanted positions (1), V vocabulary.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from experiments.config import GenerationConfig
from experiments.core.batching import batches, pad
from experiments.core.drafting import Drafter, History
from runtimes.base import Runtime, Traits

Piece = Callable[[int], str]  # the text that a token adds


@dataclass(frozen=True)
class GenerateRequest:
    """One text is generated a seed; they share the prompt's prefill. Temperature 0 is greedy: the seed is not used."""

    ids: tuple[int, ...]
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Generated:
    ids: tuple[int, ...]  # new tokens, the end-of-text token left out
    text: str  # ends before the stop string
    finished_by: str  # "eos", "stop" or "length"


OnDone = Callable[[int, int, Generated], None]  # request, sample, result: called as soon as a text is finished


@dataclass
class GenerationReport:
    """What generating took."""

    forwards: int = 0
    row_steps: int = 0  # steps of all rows behind their prompts
    drafted: int = 0
    accepted: int = 0

    def figures(self) -> dict[str, Any]:
        speculated = self.drafted > 0
        return {
            "forwards": self.forwards,
            "drafted_tokens": self.drafted,
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
    """Return a list of texts a request, one a seed, in their order.

    `new_text(prompt ids)` begins a text. `drafter` guesses for greedy rows, and never changes them.
    """
    options = options or GenerationConfig()
    loop = _Generation(runtime, traits, requests, new_text, frozenset(eos_ids), options, on_done, drafter)
    loop.report = report or loop.report
    return loop.run()


class _Row:
    """A text in the making."""

    def __init__(self, index: int, sample: int, request: GenerateRequest, piece: Piece):
        self.index, self.sample, self.request = index, sample, request
        self.ids: list[int] = []
        self.history: History | None = None  # kept where somebody guesses by it
        self.text = ""
        self.random = random.Random(request.seeds[sample])
        self._piece = piece
        self._longest = max(map(len, request.stop), default=0)

    def add(self, token: int, eos_ids: frozenset[int]) -> Generated | None:
        """Take over a token; return the result when it is the last one."""
        if token in eos_ids:
            return Generated(tuple(self.ids), self.text, "eos")
        self.ids.append(token)
        if self.history is not None:
            self.history.add(token)
        start = max(0, len(self.text) - self._longest + 1)  # a stop string may have begun in the text so far
        self.text += self._piece(token)
        found = [at for stop in self.request.stop if (at := self.text.find(stop, start)) >= 0]
        if found:
            return Generated(tuple(self.ids), self.text[: min(found)], "stop")
        if len(self.ids) == self.request.max_new_tokens:
            return Generated(tuple(self.ids), self.text, "length")
        return None


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
        # Prompts of like length are prefilled together; the samples of a prompt stand side by side and share it.
        order = sorted(range(len(requests)), key=lambda i: (-len(requests[i].ids), i))
        self._waiting = deque((index, sample) for index in order for sample in range(len(requests[index].seeds)))
        pad_tokens = traits.buckets.pad_tokens
        self._capacity = max((pad_tokens(len(r.ids)) + r.max_new_tokens + guessed for r in requests), default=0)
        fitting = max(1, options.token_budget // max(1, self._capacity))
        self._most = min(len(self._waiting), fitting, traits.max_batch or fitting)
        self._rows: list[_Row | None] = []
        self._next: list[int] = []  # the token that each row feeds in next
        self._cache: Any = None

    def run(self) -> list[list[Generated]]:
        while self._waiting or self._active():
            self._fill()
            self._shrink()
            if self._active():
                self._step()
        return [[one for one in results if one is not None] for results in self._results]

    def _active(self) -> int:
        return sum(row is not None for row in self._rows)

    def _fill(self) -> None:
        """Prefill waiting requests into rows that are free, once that is worth a call."""
        free = self._most - self._active()
        if not self._waiting or not self._is_worth_filling(free):
            return
        taken = [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
        if free == self._most:
            padded = self._traits.buckets.pad_batch(len(taken))
            self._cache = self._runtime.new_cache(padded, self._capacity)
            self._rows, self._next = [None] * padded, [0] * padded
        prompts = list(dict.fromkeys(index for index, _ in taken))
        lengths = [len(self._requests[index].ids) for index in prompts]
        for part in batches(lengths, self._traits, self._traits.batch_tokens, sort=False):
            chosen = [prompts[at] for at in part]
            self._prefill(chosen, [one for one in taken if one[0] in chosen])

    def _is_worth_filling(self, free: int) -> bool:
        if free == self._most or not self._refill:
            return free == self._most
        tokens = free * len(self._requests[self._waiting[0][0]].ids)
        return free > 0 and (free >= self._most // 4 or tokens >= self._traits.batch_tokens // 4)

    def _prefill(self, prompts: Sequence[int], taken: Sequence[tuple[int, int]]) -> None:
        """Begin the texts (request, sample), each from one of the prompts, in free rows."""
        ids_BT, lengths = pad([self._requests[index].ids for index in prompts], self._traits)
        fresh = self._runtime.new_cache(len(lengths), ids_BT.shape[1])
        logits_BV = self._runtime.forward(ids_BT, lengths, fresh).logits_BKV[:, 0]
        self.report.forwards += 1
        rows = [_Row(i, s, self._requests[i], self._new_text(self._requests[i].ids)) for i, s in taken]
        for row in rows:
            # What is sampled is not guessed: accepting by chance would draw other texts from the same seeds.
            if self.drafter is not None and row.request.temperature == 0:
                row.history = History(row.request.ids)
        source = [prompts.index(index) for index, _ in taken]
        places = [at for at, row in enumerate(self._rows) if row is None][: len(rows)]
        self._cache.replace(places, fresh if source == list(range(len(lengths))) else fresh.select(source))
        for place, row in zip(places, rows, strict=True):
            self._rows[place] = row
        self._take(places, logits_BV[torch.tensor(source, device=logits_BV.device)])

    def _shrink(self) -> None:
        """Drop free rows when nothing waits for them and a smaller batch holds the rest."""
        active = [at for at, row in enumerate(self._rows) if row is not None]
        size = self._traits.buckets.pad_batch(len(active))
        if self._waiting or not active or size > 3 * len(self._rows) // 4:
            return
        kept = active + [active[0]] * (size - len(active))
        self._cache = self._cache.select(kept)
        self._rows = [self._rows[at] if i < len(active) else None for i, at in enumerate(kept)]
        self._next = [self._next[at] for at in kept]

    def _step(self) -> None:
        held = self._cache.lengths
        if any(row is None and length for row, length in zip(self._rows, held, strict=True)):
            # Rows that nobody uses would otherwise grow beyond what they can hold.
            self._cache.rewind([length if row else 0 for row, length in zip(self._rows, held, strict=True)])
        places = [at for at, row in enumerate(self._rows) if row is not None]
        self.report.forwards += 1
        self.report.row_steps += len(places)
        guesses = self._guesses()
        if any(guesses):
            self._verify(places, guesses)
            return
        tokens_B1 = torch.tensor(self._next)[:, None]
        logits_BV = self._runtime.forward(tokens_B1, [1] * len(self._rows), self._cache).logits_BKV[:, 0]
        self._take(places, logits_BV if len(places) == len(self._rows) else logits_BV[places])

    def _guesses(self) -> list[list[int]]:
        if self.drafter is None:
            return []
        greedy = [row.history if row is not None else None for row in self._rows]
        if not any(greedy):
            return []
        left = [row.request.max_new_tokens - len(row.ids) if row is not None else 0 for row in self._rows]
        # The runtime's own token follows a guess, so that a guess of all that is left would be one too many.
        return [guess[: max(0, room - 1)] for guess, room in zip(self.drafter.propose(greedy), left, strict=True)]

    def _verify(self, places: Sequence[int], guesses: list[list[int]]) -> None:
        """Run each row's token and the guess behind it at once; keep the guess as far as the runtime agrees."""
        assert self.drafter is not None
        rows, tokens = len(self._rows), 1 + self.drafter.tokens  # one shape, whatever was guessed
        ids_BT = torch.zeros(rows, tokens, dtype=torch.long)
        for at, guess in enumerate(guesses):
            ids_BT[at, : 1 + len(guess)] = torch.tensor([self._next[at], *guess])
        before = self._cache.lengths
        at_BT = torch.arange(tokens).expand(rows, tokens).contiguous()
        lengths = [1 + len(guess) for guess in guesses]
        logits_BTV = self._runtime.forward(ids_BT, lengths, self._cache, at_BT).logits_BKV
        said = logits_BTV.argmax(dim=2).tolist()
        agreed = [_agreed(guess, said[at]) for at, guess in enumerate(guesses)]
        self._cache.rewind([length + 1 + count for length, count in zip(before, agreed, strict=True)])
        sampled = [at for at in places if (row := self._rows[at]) is not None and row.request.temperature > 0]
        if sampled:
            self._take(sampled, logits_BTV[sampled, 0])
        for at in set(places) - set(sampled):
            self.report.drafted += len(guesses[at])
            self.report.accepted += agreed[at]
            for token in said[at][: 1 + agreed[at]]:
                if self._keep(at, token):
                    break

    def _take(self, places: Sequence[int], logits_BV: torch.Tensor) -> None:
        """Choose a token for each of the rows, and finish those that end with it."""
        rows = [row for at in places if (row := self._rows[at]) is not None]
        for at, token in zip(places, _choose(logits_BV, rows), strict=True):
            self._keep(at, token)

    def _keep(self, at: int, token: int) -> bool:
        """Give a row its next token; return whether it is finished with it."""
        row = self._rows[at]
        assert row is not None
        result = row.add(token, self._eos_ids)
        self._next[at] = token
        if result is not None:
            self._rows[at] = None
            self._results[row.index][row.sample] = result
            self._on_done(row.index, row.sample, result)
        return result is not None


def _agreed(guess: Sequence[int], said: Sequence[int]) -> int:
    return next((i for i, pair in enumerate(zip(guess, said, strict=False)) if pair[0] != pair[1]), len(guess))


def _choose(logits_BV: torch.Tensor, rows: Sequence[_Row]) -> list[int]:
    tokens: list[int] = logits_BV.argmax(dim=1).tolist()
    sampled = [i for i, row in enumerate(rows) if row.request.temperature > 0]
    if sampled:
        chosen = _sample(logits_BV[sampled].double().cpu(), [rows[i] for i in sampled])
        for i, token in zip(sampled, chosen, strict=True):
            tokens[i] = token
    return tokens


def _sample(logits_BV: torch.Tensor, rows: Sequence[_Row]) -> list[int]:
    """Draw by the inverse of the distribution function, with each row's own random number."""
    temperature_B1 = torch.tensor([[row.request.temperature] for row in rows], dtype=torch.float64)
    top_p_B1 = torch.tensor([[row.request.top_p] for row in rows], dtype=torch.float64)
    probabilities_BV, order_BV = (logits_BV / temperature_B1).softmax(dim=1).sort(dim=1, descending=True, stable=True)
    before_BV = probabilities_BV.cumsum(dim=1) - probabilities_BV
    kept_BV = probabilities_BV.masked_fill(before_BV >= top_p_B1, 0.0)  # the likeliest is always kept
    drawn_B1 = torch.tensor([[row.random.random()] for row in rows], dtype=torch.float64)
    sums_BV = kept_BV.cumsum(dim=1)
    at_B1 = torch.searchsorted(sums_BV, drawn_B1 * sums_BV[:, -1:], right=True)
    last_B1 = (kept_BV > 0).sum(dim=1, keepdim=True) - 1  # rounding must not draw what was not kept
    return order_BV.gather(1, torch.minimum(at_B1, last_B1))[:, 0].tolist()
