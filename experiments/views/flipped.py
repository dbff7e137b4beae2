"""Items whose answer is not the reference's: the question and both answers, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_LETTERS = "ABCDEFGHIJ"
_PROMPT, _ANSWER = 500, 400  # characters; of a prompt the end, where the question stands
_EACH = 12  # of a benchmark
Items = dict[Path, dict[str, dict[str, Any]]]


class Flipped:
    """Reads the items of cells and their references, each file once; at most `budget_bytes` of them come out."""

    def __init__(self, budget_bytes: int):
        self._left, self._cache = budget_bytes, Items()

    def of(self, record: Mapping[str, Any], share_bytes: int) -> dict[str, Any]:
        """Return `items`, and how many there are by benchmark; `reason` where they cannot be shown."""
        answers = record.get("answers") or {}
        differing = {name: n for name, found in answers.get("benchmarks", {}).items() if (n := _differing(found))}
        items: list[dict[str, Any]] = []
        left = min(share_bytes, self._left)
        reason = answers.get("reason")
        for benchmark in differing:
            try:
                for item in self._pairs(record, benchmark, str(answers["against"])):
                    size = len(json.dumps(item))
                    if size > left:
                        break
                    left, self._left = left - size, self._left - size
                    items.append(item)
            except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
                reason = f"the items of {benchmark} cannot be read: {type(error).__name__}: {error}"
        return {"differing": differing, "items": items, "reason": reason}

    def _pairs(self, record: Mapping[str, Any], benchmark: str, against: str) -> Iterator[dict[str, Any]]:
        folder = Path(record["folder"])
        name = next(entry["items_file"] for entry in record["benchmarks"] if entry["benchmark"] == benchmark)
        mine, theirs = self._read(folder / name, False), self._read(folder.parent / against / name, True)
        pairs = [
            (mine[key], theirs[key]) for key in mine if key in theirs and _answer(mine[key]) != _answer(theirs[key])
        ]
        pairs.sort(key=lambda pair: pair[0].get("is_right") == pair[1].get("is_right"))  # those that count come first
        for one, other in pairs[:_EACH]:
            yield {
                "benchmark": benchmark,
                "id": one["id"],
                "question": str(one.get("question") or one.get("prompt") or "")[-_PROMPT:],
                "wanted": _wanted(one)[:_ANSWER],
                "reference": _answer(other)[:_ANSWER],
                "cell": _answer(one)[:_ANSWER],
                "reference_right": other.get("is_right"),
                "cell_right": one.get("is_right"),
            }

    def _read(self, path: Path, is_kept: bool) -> dict[str, dict[str, Any]]:
        if path in self._cache:
            return self._cache[path]
        with path.open(encoding="utf-8") as file:
            found = {f"{item['id']}/{item.get('sample')}": item for item in map(json.loads, file)}
        if is_kept:  # a reference serves many cells
            self._cache[path] = found
        return found


def _differing(figures: Mapping[str, Any]) -> int:
    """Return how many items have another answer, for benchmarks with items that people can read."""
    if "different_items" in figures:
        return len(figures["different_items"])
    changed = figures.get("changed_answers")
    return round(changed["estimate"] * figures["items"]) if changed else 0


def _answer(item: Mapping[str, Any]) -> str:
    if "predicted" in item:
        return _choice(item, item["predicted"])
    return str(item.get("text", ""))


def _wanted(item: Mapping[str, Any]) -> str:
    if "predicted" in item:
        return _choice(item, item["answer"])
    answers = item.get("answers") or item.get("references") or []
    return str(answers[0]) if answers else ""


def _choice(item: Mapping[str, Any], index: int) -> str:
    choices = item.get("choices")  # older records have none
    return f"{_LETTERS[index]}. {choices[index]}" if choices else f"choice {_LETTERS[index]}"
