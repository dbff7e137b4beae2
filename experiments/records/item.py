"""A cell's answer to one item of a benchmark: one line of an items file."""

from __future__ import annotations

from typing import Any, TypeVar

from msgspec import Struct

from runtime_matrix.experiments.records.schema import typed

T = TypeVar("T")


class Item(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A cell's answer to one item of a benchmark; which fields are set depends on the benchmark."""

    id: str | int | None = None
    sample: int | None = None  # of a problem with several samples
    cluster: str | int | None = None  # items of one cluster are not independent
    prompt: Any = None
    question: str | None = None  # of multiple choice, which has no prompt
    choices: list[str] | None = None  # unknown in early records
    answer: Any = None  # the right one; in multiple choice its index
    predicted: Any = None
    is_right: bool | float | None = None
    worth: bool | float | None = None  # the score, from the field that `Score` names
    logprobs: list[float] | None = None  # of each choice
    lengths: list[int] | None = None  # of each choice, the divisors of `logprobs`
    text: str | None = None
    ids: list[int] | None = None  # tokens of the text
    window: int | None = None
    tokens: int | None = None  # of the window
    logprob: float | None = None  # of the window
    is_unsupported: bool | None = None  # the label of a response
    fold: int | None = None  # of the response: one detector judged those of a fold


def read_item(line: Any, field: str) -> Item:
    """Return a line of an items file, with its score from `field`. ValueError for a line that is none."""
    if not isinstance(line, dict):
        raise ValueError(f"an item is not a JSON object: {str(line)[:60]}")
    return typed({**line, "worth": line.get(field)}, Item)


def present(value: T | None, name: str) -> T:
    """Return a value that an item must have. KeyError with its name if it is missing."""
    if value is None:
        raise KeyError(name)
    return value
