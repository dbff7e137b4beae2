"""Several cells' answers combined item by item, by majority vote or by mean log-probability.

An ensemble chooses among recorded answers, so its score is known without running anything. Reads items only.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from runtime_matrix.experiments.analysis.paired_outputs import scored
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.records.item import Item
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.paired import loss
from runtime_matrix.experiments.tasks.language import answer_words

Rule = Literal["vote", "logprob"]
Answer = Hashable  # what two members must share to vote for the same
_MOST_NAMED = 3


@dataclass(frozen=True)
class Member:
    """One cell's items of a benchmark, in the order of the first member's."""

    name: str
    items: Sequence[Item]
    scores: Sequence[float]  # 0 to 1

    @property
    def score(self) -> float:
        """Return the mean score."""
        return sum(self.scores) / len(self.scores)


@dataclass(frozen=True)
class Ensemble:
    """The members and the score of their joint answers."""

    members: Sequence[Member]
    score: float  # 0 to 1
    difference: Interval | None  # from the best member, paired by item; None for fewer than two independent items
    at_least_one: float | None  # share of items that some member has right; None for scores between 0 and 1
    ties: int  # items without a majority, decided by the order of the members
    unlike_scores: int  # items where the same answer has another score in another cell
    correlations: Mapping[tuple[str, str], float | None]  # of the members' errors; None if one is the same everywhere

    @property
    def best(self) -> Member:
        """Return the member with the highest score on these items; the first of equal ones."""
        return max(self.members, key=lambda member: member.score)


def combine(benchmark: str, cells: Mapping[str, Sequence[Item]], rule: Rule, language: str | None) -> Ensemble:
    """Return the ensemble of two or more cells by name; UserError if they did not answer the same items.

    `language` is that of `answer_words`, by which texts are the same; None: they must be identical, as programs.
    """
    members = _members(benchmark, cells)
    rows = list(zip(*(member.items for member in members), strict=True))
    by_item = list(zip(*(member.scores for member in members), strict=True))
    ties = unlike = 0
    if rule == "logprob":
        scores = [_by_logprob(benchmark, cells, row) for row in rows]
    else:
        votes = [_vote([_answer(benchmark, item, language) for item in row]) for row in rows]
        scores = [own[vote.winners[0]] for own, vote in zip(by_item, votes, strict=True)]
        ties = sum(vote.is_tied for vote in votes)
        unlike = sum(
            len({own[winner] for winner in vote.winners}) > 1 for own, vote in zip(by_item, votes, strict=True)
        )
    best = max(members, key=lambda member: member.score)
    lost = loss(scores, best.scores, scored(benchmark, best.items).clusters)
    is_discrete = all(score in (0.0, 1.0) for own in by_item for score in own)
    return Ensemble(
        members,
        sum(scores) / len(scores),
        lost.negated() if lost is not None else None,
        sum(map(max, by_item)) / len(rows) if is_discrete else None,
        ties,
        unlike,
        {(a.name, b.name): phi(a.scores, b.scores) for a, b in combinations(members, 2)},
    )


def phi(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the correlation of two members' errors, the phi coefficient for right and wrong; None if undefined."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _members(benchmark: str, cells: Mapping[str, Sequence[Item]]) -> list[Member]:
    """Return the members with their items in one order; UserError for other, repeated or unlike items."""
    reference: dict[str, Item] = {}
    members: list[Member] = []
    for name, items in cells.items():
        try:
            scores = scored(benchmark, items)
        except KeyError as error:
            raise UserError(f"{benchmark}: an item of {name} has no {error}; measure the cell again") from error
        except (TypeError, ValueError, IndexError, ZeroDivisionError) as error:
            raise UserError(f"{benchmark}: an item of {name} is damaged: {error}; measure the cell again") from error
        by_id = dict(zip(scores.ids, zip(items, scores.scores, strict=True), strict=True))
        if len(by_id) < len(items):
            repeated = next(item for item in by_id if scores.ids.count(item) > 1)
            raise UserError(f"{benchmark}: item {repeated} of {name} occurs twice; measure the cell again")
        reference = reference or {key: item for key, (item, _) in by_id.items()}
        first = next(iter(cells))
        for who, missing in ((name, reference.keys() - by_id.keys()), (first, by_id.keys() - reference.keys())):
            if missing:
                raise UserError(
                    f"{benchmark}: {who} lacks {_named(missing)} of {first if who == name else name}: give cells with "
                    "the same data, sample, seed and limit"
                )
        unlike = [key for key, item in reference.items() if _asks(item, by_id[key][0])]
        if unlike:
            raise UserError(f"{benchmark}: {_named(unlike)} ask something else in {name} than in {first}")
        members.append(Member(name, [by_id[key][0] for key in reference], [by_id[key][1] for key in reference]))
    if not reference:
        raise UserError(f"{benchmark}: {', '.join(cells)} have no items")
    if any(not 0 <= score <= 1 for member in members for score in member.scores):
        raise UserError(f"{benchmark}: a score is not between 0 and 1; measure the cell again")
    return members


def _asks(item: Item, other: Item) -> bool:
    """Return whether two items with the same id differ in what is known of the question."""
    pairs = [(getattr(item, name), getattr(other, name)) for name in ("prompt", "question", "choices", "answer")]
    return any(a is not None and b is not None and a != b for a, b in pairs)


def _answer(benchmark: str, item: Item, language: str | None) -> Answer:
    if item.predicted is not None:
        return str(item.predicted)
    if item.text is None:
        raise UserError(f"{benchmark}: item {item.id} has neither a choice nor a text, so it cannot be voted on")
    return item.text.rstrip() if language is None else tuple(answer_words(item.text, language))


@dataclass(frozen=True)
class _Vote:
    """The members behind the most frequent answer, and whether another was as frequent."""

    winners: list[int]
    is_tied: bool


def _vote(answers: Sequence[Answer]) -> _Vote:
    """Return the most frequent answer; of equally frequent ones, that of the first member."""
    groups: dict[Answer, list[int]] = {}
    for member, answer in enumerate(answers):
        groups.setdefault(answer, []).append(member)
    winners = max(groups.values(), key=len)
    return _Vote(winners, sum(len(group) == len(winners) for group in groups.values()) > 1)


def _by_logprob(benchmark: str, names: Mapping[str, object], row: Sequence[Item]) -> float:
    """Return the score of the choice with the highest mean log-probability, each divided as its cell divides it."""
    scores = [_per_length(benchmark, name, item) for name, item in zip(names, row, strict=True)]
    if len({len(score) for score in scores}) > 1:
        raise UserError(f"{benchmark}: item {row[0].id} has another number of choices in another cell")
    means = [sum(column) / len(column) for column in zip(*scores, strict=True)]
    answer = next((item.answer for item in row if item.answer is not None), None)
    if answer is None:
        raise UserError(f"{benchmark}: item {row[0].id} does not tell the right choice")
    return float(means.index(max(means)) == answer)


def _per_length(benchmark: str, name: str, item: Item) -> list[float]:
    if not item.logprobs:
        raise UserError(f"{benchmark}: the items of {name} have no log-probabilities; combine them by vote")
    lengths = item.lengths or [1] * len(item.logprobs)
    if len(lengths) != len(item.logprobs) or min(lengths) < 1 or not all(map(math.isfinite, item.logprobs)):
        raise UserError(f"{benchmark}: the log-probabilities of item {item.id} of {name} are damaged; measure it again")
    return [logprob / length for logprob, length in zip(item.logprobs, lengths, strict=True)]


def _named(ids: set[str] | Sequence[str]) -> str:
    shown = sorted(ids)[:_MOST_NAMED]
    more = f" and {len(ids) - len(shown)} more" if len(ids) > len(shown) else ""
    return f"{'item' if len(ids) == 1 else 'items'} {', '.join(shown)}{more}"
