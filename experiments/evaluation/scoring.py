"""The scoring loop: log-probabilities of given continuations. Shared parts of requests are computed once.

Requests form a tree of two levels: a prefix that the task declares (few-shot examples), and each request's own context,
which several continuations may share. Shapes: B rows, T tokens, K scored positions, N scored tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from runtime_matrix.experiments.config.schema import ScoringConfig
from runtime_matrix.experiments.evaluation.batching import batches, pad, pad_positions, split
from runtime_matrix.experiments.evaluation.finite import check_numbers, tied
from runtime_matrix.experiments.evaluation.prefix_cache import PrefixCache, Tally
from runtime_matrix.experiments.evaluation.requests import Scored, ScoreRequest
from runtime_matrix.runtimes.base import Runtime, Traits
from runtime_matrix.runtimes.transfer import to_device

_MOST_LOGITS = 1 << 27  # logits per batch (0.5 GiB in float32); matters for texts scored at every position
Finished = list[tuple[int, Scored]]  # (index of the request, result)


def score(
    runtime: Runtime,
    traits: Traits,
    requests: Sequence[ScoreRequest],
    options: ScoringConfig | None = None,
    tally: Tally | None = None,
    banned: Collection[int] = (),
) -> list[Scored]:
    """Return one result per request, in their order; FloatingPointError for logits that are not finite.

    `banned` tokens are no rivals: a margin is to the top token among the others. A banned token itself competes with
    all.
    """
    results: dict[int, Scored] = {}
    for finished in score_batches(runtime, traits, requests, options or ScoringConfig(), tally or Tally(), banned):
        results.update(finished)
    return [results[index] for index in range(len(requests))]


def score_batches(
    runtime: Runtime,
    traits: Traits,
    requests: Sequence[ScoreRequest],
    options: ScoringConfig,
    tally: Tally,
    banned: Collection[int] = (),
) -> Iterator[Finished]:
    """Yield the results of each batch as soon as it is done; each request is in exactly one batch."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault(request.prefix, []).append(index)
    alone: list[_Row] = []
    for prefix, indices in groups.items():
        rows = _rows(requests, indices, options)
        if _is_worth_sharing(prefix, rows, traits, options):
            yield from _Branches(runtime, traits, options, tally, prefix, rows, banned).run()
        else:
            alone += [row.behind(prefix) for row in rows]
    yield from _Branches(runtime, traits, options, tally, (), alone, banned).run()
    tally.asked_tokens += sum(len(request.prefix) + len(request.ids) - 1 for request in requests)


@dataclass(frozen=True)
class _Continuation:
    request: int  # index of the request
    ids: tuple[int, ...]  # the scored tokens


@dataclass(frozen=True)
class _Row:
    """A context with one continuation, or with several that share it."""

    context: tuple[int, ...]
    continuations: tuple[_Continuation, ...]

    @property
    def is_stem(self) -> bool:
        """Return whether several continuations share the context."""
        return len(self.continuations) > 1

    @property
    def run_ids(self) -> tuple[int, ...]:
        """Return the input tokens of the row; the last token of a continuation is scored but never run."""
        return self.context if self.is_stem else (*self.context, *self.continuations[0].ids[:-1])

    @property
    def wanted(self) -> range:
        """Return the positions of `run_ids` whose logits are needed."""
        return range(len(self.context) - 1, len(self.run_ids))

    def behind(self, prefix: tuple[int, ...]) -> _Row:
        """Return the row with the prefix as part of its context."""
        return _Row((*prefix, *self.context), self.continuations) if prefix else self


def _rows(requests: Sequence[ScoreRequest], indices: Sequence[int], options: ScoringConfig) -> list[_Row]:
    siblings: dict[object, list[int]] = {}
    for index in indices:
        request = requests[index]
        key = request.ids[: request.first_scored] if options.share_question else index
        siblings.setdefault(key, []).append(index)
    rows = []
    for group in siblings.values():
        cut = requests[group[0]].first_scored
        continuations = tuple(_Continuation(index, requests[index].ids[cut:]) for index in group)
        rows.append(_Row(requests[group[0]].ids[:cut], continuations))
    return rows


def _is_worth_sharing(prefix: tuple[int, ...], rows: Sequence[_Row], traits: Traits, options: ScoringConfig) -> bool:
    """Return whether sharing saves tokens, padding included. With `batch_invariant` the batch must not decide."""
    if not prefix or not options.share_prefix or options.batch_invariant:
        return bool(prefix) and options.share_prefix
    padded = traits.buckets.pad_tokens
    lengths = [len(row.run_ids) for row in rows]
    shared = padded(len(prefix)) + sum(map(padded, lengths))
    return shared < sum(padded(len(prefix) + length) for length in lengths)


class _Branches:
    """Scores rows that share one prefix, which may be empty, in batches."""

    def __init__(
        self,
        runtime: Runtime,
        traits: Traits,
        options: ScoringConfig,
        tally: Tally,
        prefix: tuple[int, ...],
        rows: Sequence[_Row],
        banned: Collection[int] = (),
    ):
        self._banned = sorted(banned)
        self._runtime, self._traits, self._options, self._tally = runtime, traits, options, tally
        self._prefix, self._rows = prefix, rows
        self._most_positions = max(1, _MOST_LOGITS // traits.vocabulary)

    def run(self) -> Iterator[Finished]:
        """Yield the results of each batch."""
        if not self._rows:
            return
        lengths = [len(row.run_ids) for row in self._rows]
        endings = [len(continuation.ids) - 1 for row in self._rows if row.is_stem for continuation in row.continuations]
        padded = self._traits.buckets.pad_tokens
        self._ending_room = padded(max(endings)) if any(endings) else 0
        room = padded(max(lengths)) + self._ending_room
        prefix_cache = PrefixCache(self._runtime, self._traits, self._prefix, room, self._tally)
        wanted = [len(row.wanted) for row in self._rows]
        packed = self._traits.packs_rows and bool(self._prefix)
        for batch in self._batches(lengths, prefix_cache.copied_tokens, packed):
            for part in split(batch, wanted, self._most_positions):
                yield self._score(prefix_cache, [self._rows[index] for index in part])

    def _batches(self, lengths: Sequence[int], held: int, packed: bool = False) -> list[list[int]]:
        one_by_one = self._options.batch_invariant or not self._options.batch
        return batches(
            lengths,
            self._traits,
            1 if one_by_one else self._options.token_budget or self._traits.batch_tokens,
            self._options.sort_by_length,
            held,
            self._options.cache_budget,
            packed,
            self._options.rows_by_length,
        )

    def _score(self, prefix_cache: PrefixCache, rows: Sequence[_Row]) -> Finished:
        ids_BT, lengths = pad([row.run_ids for row in rows], self._traits)
        longer = [at for at, row in enumerate(rows) if row.is_stem and any(len(c.ids) > 1 for c in row.continuations)]
        packed = self._traits.packs_rows and bool(self._prefix)
        room = ids_BT.shape[1] + self._ending_room if longer or not packed else 0  # 0: no tokens follow
        cache = prefix_cache.rows(len(lengths), room) if self._prefix or longer else None
        logits_BKV = self._forward(ids_BT, lengths, cache, [row.wanted for row in rows], packed)
        parts: dict[int, list[tuple[float, float]]] = {}
        reads = [
            _Read(at, range(1) if row.is_stem else range(len(continuation.ids)), continuation)
            for at, row in enumerate(rows)
            for continuation in row.continuations
        ]
        for read, values in zip(reads, self._read(logits_BKV, reads), strict=True):
            parts[read.continuation.request] = values
        if longer:
            self._score_endings(cache, rows, longer, parts)
        return [(index, _scored(values)) for index, values in parts.items()]

    def _score_endings(
        self, cache: Any, rows: Sequence[_Row], longer: Sequence[int], parts: dict[int, list[tuple[float, float]]]
    ) -> None:
        """Score the tokens after the first of continuations that share a context, each in its own row."""
        pending = [(at, ending) for at in longer for ending in rows[at].continuations if len(ending.ids) > 1]
        held = max(cache.lengths) if not self._traits.shares_prefix else max(len(rows[at].run_ids) for at in longer)
        for batch in self._batches([len(ending.ids) - 1 for _, ending in pending], held):
            group = [pending[index] for index in batch]
            ids_BT, lengths = pad([ending.ids[:-1] for _, ending in group], self._traits)
            parents = [at for at, _ in group]
            branches = cache.select(parents + parents[:1] * (len(lengths) - len(parents)))
            logits_BKV = self._forward(ids_BT, lengths, branches, [range(len(ending.ids) - 1) for _, ending in group])
            reads = [_Read(row, range(1, len(ending.ids)), ending, -1) for row, (_, ending) in enumerate(group)]
            for read, values in zip(reads, self._read(logits_BKV, reads), strict=True):
                parts[read.continuation.request] += values

    def _forward(
        self, ids_BT: torch.Tensor, lengths: list[int], cache: Any, wanted: Sequence[range], packed: bool = False
    ) -> torch.Tensor:
        self._tally.add(ids_BT, lengths, len(wanted), packed)
        return self._runtime.forward(ids_BT, lengths, cache, pad_positions(wanted, len(lengths))).logits_BKV

    def _read(self, logits_BKV: torch.Tensor, reads: Sequence[_Read]) -> list[list[tuple[float, float]]]:
        """Return (log-probability, margin of the top token) of each token of each read."""
        at = [(read.row, token + read.shift, read.continuation.ids[token]) for read in reads for token in read.tokens]
        row_N, column_N, target_N = to_device(torch.tensor(at), logits_BKV.device).unbind(1)
        logit_N, highest_BK = logits_BKV[row_N, column_N, target_N], logits_BKV.amax(dim=2)
        logprob_N = logit_N - logits_BKV.logsumexp(dim=2)[row_N, column_N]
        is_read_BK = torch.zeros_like(highest_BK, dtype=torch.bool)
        is_read_BK[row_N, column_N] = True
        rival_N = self._rivals(logits_BKV, highest_BK)[row_N, column_N]
        margin_N = rival_N - logit_N
        if self._banned:
            is_banned_N = torch.isin(target_N, torch.tensor(self._banned, device=target_N.device))
            margin_N = torch.where(is_banned_N, highest_BK[row_N, column_N] - logit_N, margin_N)
        tied_count = (tied(logits_BKV, highest_BK) & is_read_BK).sum()
        # One transfer for everything, because each transfer waits for the device.
        parts = (tied_count[None], logprob_N, margin_N)
        tied_positions, *values = torch.cat([part.double() for part in parts]).tolist()
        logprobs, margins = values[: len(at)], values[len(at) :]
        check_numbers(logprobs, "a scored token")  # one NaN or +inf in a row makes all its log-probabilities non-finite
        self._tally.tied_positions += int(tied_positions)
        pairs = iter(zip(logprobs, margins, strict=True))
        return [[next(pairs) for _ in read.tokens] for read in reads]

    def _rivals(self, logits_BKV: torch.Tensor, highest_BK: torch.Tensor) -> torch.Tensor:
        """Return the highest logits of the tokens that are not banned."""
        if not self._banned:
            return highest_BK
        allowed_BKV = logits_BKV.clone()
        allowed_BKV[:, :, self._banned] = -torch.inf
        return allowed_BKV.amax(dim=2)


@dataclass(frozen=True)
class _Read:
    """Tokens of a continuation to read from a row of logits; token t is at column t + `shift`."""

    row: int
    tokens: range
    continuation: _Continuation
    shift: int = 0


def _scored(values: Sequence[tuple[float, float]]) -> Scored:
    logprobs, margins = zip(*values, strict=True)
    return Scored(logprobs, margins)


def chunks(requests: Iterable[ScoreRequest], size: int) -> Iterator[list[ScoreRequest]]:
    """Split a stream into lists of about `size` requests; consecutive requests with the same context stay together."""
    chunk: list[ScoreRequest] = []
    for request in requests:
        if len(chunk) >= size and not _are_siblings(chunk[-1], request):
            yield chunk
            chunk = []
        chunk.append(request)
    if chunk:
        yield chunk


def _are_siblings(first: ScoreRequest, second: ScoreRequest) -> bool:
    cut = first.first_scored
    return cut == second.first_scored and first.ids[:cut] == second.ids[:cut] and first.prefix == second.prefix
