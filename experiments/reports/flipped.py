"""Items whose answer differs from the reference's: the question and both answers, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from runtime_matrix.experiments.records.comparison import BenchmarkDiff, Result
from runtime_matrix.experiments.records.schema import to_plain, typed

_LETTERS = "ABCDEFGHIJ"
_PROMPT, _ANSWER = 500, 400  # characters; a prompt is cut at its start, as the question is at its end
_EACH = 12  # items per benchmark


class _Item(Struct, frozen=True, kw_only=True):
    """One line of an items file; which fields are set depends on the benchmark."""

    id: str | int
    sample: int | None = None  # of a problem with several samples
    question: str | None = None
    prompt: str | None = None
    choices: list[str] | None = None  # older records have none
    answer: int | None = None  # index of the right choice
    predicted: int | None = None  # index of the chosen one
    text: str = ""
    answers: list[str] = []  # the accepted ones
    references: list[str] = []  # reference summaries
    is_right: bool | None = None


class FlippedItem(Struct, frozen=True, kw_only=True):
    """A question and the answers of the reference and of the cell."""

    benchmark: str
    id: str | int
    question: str
    wanted: str
    reference: str
    cell: str
    reference_right: bool | None
    cell_right: bool | None


class FlippedItems(Struct, frozen=True, kw_only=True):
    """The items of a cell whose answer differs from the reference's, and their number per benchmark."""

    differing: dict[str, int]
    items: list[FlippedItem]
    reason: str | None  # why they cannot be shown


class Flipped:
    """Reads the items of cells and of their references. All cells together return at most `budget_bytes`."""

    def __init__(self, budget_bytes: int):
        self._left = budget_bytes
        self._cache: dict[Path, Mapping[str, _Item]] = {}

    def of(self, result: Result, share_bytes: int) -> FlippedItems:
        """Return the items of a cell, at most `share_bytes` of JSON. Unreadable files become the `reason`."""
        if result.diff is None:
            return FlippedItems(differing={}, items=[], reason=result.diff_problem)
        diffs = result.diff.benchmarks
        differing = {name: count for name, diff in diffs.items() if (count := _differing(diff))}
        items: list[FlippedItem] = []
        left, reason = min(share_bytes, self._left), result.diff.reason
        for benchmark in differing:
            try:
                for item in self._pairs(result, benchmark, result.diff.against):
                    size = len(json.dumps(to_plain(item)))
                    if size > left:
                        break
                    left, self._left = left - size, self._left - size
                    items.append(item)
            except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
                reason = f"the items of {benchmark} cannot be read: {type(error).__name__}: {error}"
        return FlippedItems(differing=differing, items=items, reason=reason)

    def _pairs(self, result: Result, benchmark: str, against: str) -> Iterator[FlippedItem]:
        name = next(entry.items_file for entry in result.record.benchmarks if entry.benchmark == benchmark)
        if name is None:
            raise KeyError("items_file")
        own_items = self._read(result.folder / name, is_kept=False)
        reference_items = self._read(result.folder.parent / against / name, is_kept=True)  # read by many cells
        pairs = [
            (own_items[key], reference_items[key])
            for key in own_items
            if key in reference_items and _answer(own_items[key]) != _answer(reference_items[key])
        ]
        pairs.sort(key=lambda pair: pair[0].is_right == pair[1].is_right)  # a changed verdict comes first
        for item, other in pairs[:_EACH]:
            yield FlippedItem(
                benchmark=benchmark,
                id=item.id,
                question=(item.question or item.prompt or "")[-_PROMPT:],
                wanted=_wanted(item)[:_ANSWER],
                reference=_answer(other)[:_ANSWER],
                cell=_answer(item)[:_ANSWER],
                reference_right=other.is_right,
                cell_right=item.is_right,
            )

    def _read(self, path: Path, is_kept: bool) -> Mapping[str, _Item]:
        if path in self._cache:
            return self._cache[path]
        with path.open(encoding="utf-8") as file:
            items = [typed(json.loads(line), _Item) for line in file]
        by_key = {f"{item.id}/{item.sample}": item for item in items}
        if is_kept:
            self._cache[path] = by_key
        return by_key


def _differing(diff: BenchmarkDiff) -> int:
    """Return the number of items with another answer; 0 for benchmarks without readable items."""
    if diff.different_items is not None:
        return len(diff.different_items)
    return round(diff.changed_answers.estimate * diff.items) if diff.changed_answers else 0


def _answer(item: _Item) -> str:
    return item.text if item.predicted is None else _choice(item, item.predicted)


def _wanted(item: _Item) -> str:
    if item.answer is not None and item.predicted is not None:
        return _choice(item, item.answer)
    return next(iter(item.answers or item.references), "")


def _choice(item: _Item, index: int) -> str:
    name = _LETTERS[index] if index < len(_LETTERS) else str(index + 1)
    return f"{name}. {item.choices[index]}" if item.choices else f"choice {name}"
