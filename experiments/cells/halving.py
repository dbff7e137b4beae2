"""The cell with half the batches of another, for a second try after it ran out of memory."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.schema import Record

_BUDGETS = ("scoring", "generation")  # groups with an option `token_budget`


def halved(cell: Cell, preferred_tokens: int | None) -> tuple[Cell, str] | None:
    """Return the cell with half the rows and tokens per batch, and what was halved; None if all batches have one row.

    It is another cell, as if its options had been given. `preferred_tokens`: the token budget that a runtime prefers,
    which applies to scoring where none is set; None if it is not known.
    """
    resolved, changes = deepcopy(cell.resolved), []
    for key, value in _sizes(cell, preferred_tokens):
        half = _half(value)
        if half == value:
            continue
        *groups, name = key.split(".")
        options: JsonObject = resolved
        for group in groups:
            options = options[group]
        options[name] = half
        changes.append((key, value, half))
    if not changes:
        return None
    engine = resolved["runtime"]["engine"]
    if "max_batch" in engine:
        engine["max_batch"] = None  # as many rows as are needed now
    words = [f"{key}={_text(half)}" for key, _, half in changes]
    command = " ".join([cell.command, *map(shlex.quote, words)])
    was = [_text(value) for _, value, _ in changes]
    return plan(resolved, command), ", ".join(f"{word} instead of {old}" for word, old in zip(words, was, strict=True))


def as_run(cell: Cell, record: Record) -> Cell:
    """Return the cell that a record of a sweep belongs to: this one, or its second try."""
    return cell if record.second_try is None else plan(record.config, record.command)


def _sizes(cell: Cell, preferred_tokens: int | None) -> Iterator[tuple[str, Any]]:
    """Yield the options that set how much is computed at once, with their values."""
    if cell.config.batch_size is not None:  # the benchmarks take theirs from it
        yield "batch_size", cell.config.batch_size
    else:
        for name, options in cell.config.benchmark.options.items():
            if hasattr(options, "batch"):
                rows = options.batch
                yield f"benchmark.{name}.batch", list(rows) if isinstance(rows, tuple) else rows
    for group in _BUDGETS:
        tokens = cell.resolved[group]["token_budget"]
        if tokens is None and group == "scoring":
            tokens = preferred_tokens
        if tokens is not None:
            yield f"{group}.token_budget", tokens


def _half(value: Any) -> Any:
    if isinstance(value, list):
        return list(dict.fromkeys(max(1, rows // 2) for rows in value))
    return max(1, value // 2)


def _text(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)
