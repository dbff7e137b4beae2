"""The matrix as text: a terminal's table, Markdown, CSV, JSON."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runtime_matrix.experiments.analysis.columns import PAGE, failures, is_alarm, known, speed_notes
from runtime_matrix.experiments.records.journal import plain
from runtime_matrix.experiments.records.metric import Metric
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.reports.verdict import sentence

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH_OF_A_LOG = 180  # characters, where the output is not a terminal
_NAMED = 12  # of the columns that had to leave
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a formula begins
_RED = "🟥"  # Markdown has no colours
NOTES = (
    "* the reference; ± one standard error; n/a unknown or not interleaved; alone: of a cell that took no turns with "
    "the reference, an order of magnitude",
    "speedup: wall time at the cell's own threads, in turns with the reference; CPU speedup: CPU time of one thread; "
    "[interval over launches; those of a column of speedups hold together at 95 %]",
)


def width() -> int | None:
    """Return how wide to print: None, as wide as the terminal; into a file or pipe COLUMNS, else a fixed width."""
    if sys.stdout.isatty():
        return None
    asked = os.environ.get("COLUMNS", "")
    return int(asked) if asked.isdecimal() and int(asked) > 0 else _WIDTH_OF_A_LOG


def render_table(found: Sequence[Row], console: Console) -> None:
    """Print the matrix as wide as the console, and say which columns had to leave, the most important first."""
    columns, left_out = _fitting(found, console.width)
    others = f" and {len(left_out) - _NAMED} others" if len(left_out) > _NAMED else ""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.header, justify="right" if column.is_number else "left")
    for row in found:
        table.add_row(
            *[escape(clean(column.show(row))) for column in columns], style="bold red" if is_alarm(row) else None
        )
    console.print(table, highlight=False)
    said = sentence(found)
    if said is not None:
        console.print(f"\n{clean(said)}\n", style="bold", markup=False, highlight=False, soft_wrap=True)
    for row in found:
        for line in map(clean, failures([row])):
            console.print(line, style="red" if is_alarm(row) else "dim", markup=False, highlight=False, soft_wrap=True)
    for line in map(clean, foot(found)):
        console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)
    if left_out:
        console.print(
            f"too narrow for: {', '.join(left_out[:_NAMED])}{others}; --format md --wide has all",
            style="dim",
            markup=False,
            soft_wrap=True,
        )


def foot(found: Sequence[Row]) -> list[str]:
    """Return the lines below a matrix: what the signs mean, what to know of single rows, and the machines."""
    remarks: dict[str, list[str]] = {}  # the runtimes of each
    for row in found:
        for text in _remarks(row):
            remarks.setdefault(text, []).append(row.runtime)
    loads: dict[str, list[float]] = {}
    for row in found:
        if row.machine_description:
            load = row.get("load_1min")
            loads.setdefault(row.machine_description, []).extend([] if load is None else [load])
    machines = [name + (f", load {max(seen):.1f}" if seen else "") for name, seen in loads.items()]
    said = [f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in remarks.items()]
    return [*_unfinished(found), *speed_notes(found), *NOTES, *said, *machines]


def _remarks(row: Row) -> list[str]:
    """Return what the figures of a row cannot be read without."""
    notes = (row.dtype_note, row.peak_note, row.sandbox_note, row.cache_note)
    return [text for note in notes if note for text in note.split("; ") if text]


def _unfinished(found: Sequence[Row]) -> list[str]:
    left = max((row.get("sweep_missing_cells") or 0 for row in found), default=0)
    said = "1 cell of this sweep is" if left == 1 else f"{left:.0f} cells of this sweep are"
    return [f"UNFINISHED: {said} not recorded yet; the same command with resume=true goes on"] if left else []


def markdown(found: Sequence[Row], wide: bool = False) -> str:
    """Return a table, with all columns where `wide`, failures and notes below."""
    columns = [column for column in known(found) if wide or column.rank <= PAGE]
    lines = [
        "| " + " | ".join(markdown_cell(column.header) for column in columns) + " |",
        "|" + "".join(" ---: |" if column.is_number else " --- |" for column in columns),
        *("| " + " | ".join(_shown(column, row) for column in columns) + " |" for row in found),
    ]
    said = [_alarmed(row, markdown_cell(line)) for row in found for line in failures([row])]
    notes = [markdown_cell(note).replace("*", r"\*") for note in foot(found)]
    first = sentence(found)
    verdict = [f"**{markdown_cell(first)}**"] if first is not None else []
    return "\n".join(lines) + "\n\n" + "\n\n".join([*verdict, *said, *notes]) + "\n"


def csv_text(found: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(found[0].flat()), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _inert(value) for key, value in row.flat().items()} for row in found)
    return text.getvalue()


def json_text(found: Sequence[Row]) -> str:
    """Return an array of rows, as `matrix.schema.json` describes them."""
    return json.dumps(plain([row.flat() for row in found]), indent=1, allow_nan=False) + "\n"


def _shown(column: Metric, row: Row) -> str:
    text = markdown_cell(column.show(row))
    return f"{_RED} **{text}**" if column.key == "status" and is_alarm(row) else text


def _alarmed(row: Row, line: str) -> str:
    name = f"{row.runtime}: {row.status}"
    return f"{_RED} **{name}**{line.removeprefix(name)}" if is_alarm(row) else line


def clean(text: str) -> str:
    """Return a text of others' without the control characters by which it could repaint or retitle a terminal."""
    return "".join("\ufffd" if unicodedata.category(one) == "Cc" and one not in "\n\t" else one for one in text)


def markdown_cell(text: str) -> str:
    """Return a text that stays one cell of Markdown, and no tag or link of its own."""
    text = clean(text).replace("|", r"\|").replace("\n", " ").replace("](", r"]\(")
    return text.replace("<", "&lt;")


def _inert(value: str | float | bool | None) -> str | float | bool | None:
    """Return a value that no spreadsheet takes for a formula."""
    return f"'{clean(value)}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _fitting(found: Sequence[Row], width: int) -> tuple[list[Metric], list[str]]:
    columns = known(found)
    left_out: list[str] = []

    def taken() -> int:
        return sum(max(len(one.header), *(len(one.show(row)) for row in found)) + 2 for one in columns)

    while taken() > width:
        least = max(reversed(columns), key=lambda column: column.rank)  # of equals the one on the right
        if least.rank == 0:
            break
        columns.remove(least)
        left_out.insert(0, least.header)
    return columns, left_out
