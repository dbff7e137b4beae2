"""The matrix as text: a table for terminals, Markdown, CSV and JSON."""

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
from runtime_matrix.experiments.analysis.consistency import contradictions
from runtime_matrix.experiments.records.journal import plain
from runtime_matrix.experiments.records.metric import Metric
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.reports.verdict import sentence

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH_OF_A_LOG = 180  # characters, where the output is not a terminal
_NAMED = 12  # names of columns that did not fit
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # first characters of a formula in a spreadsheet
_RED = "🟥"  # Markdown has no colours
NOTES = (
    "* the reference; ± one standard error; n/a unknown or not interleaved; alone: not measured in turns with "
    "the reference, an order of magnitude",
    "speedup: wall time at the cell's own threads, in turns with the reference; CPU speedup: CPU time of one thread; "
    "[interval over launches; those of a column of speedups hold together at 95 %]",
)


def width() -> int | None:
    """Return the output width in characters: None for a terminal; for a file or pipe COLUMNS or a fixed width."""
    if sys.stdout.isatty():
        return None
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) > 0 else _WIDTH_OF_A_LOG


def render_table(rows: Sequence[Row], console: Console) -> None:
    """Print the matrix within the width of the console, then the verdict, failures, notes and left-out columns."""
    columns, left_out = _fitting(rows, console.width)
    others = f" and {len(left_out) - _NAMED} others" if len(left_out) > _NAMED else ""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.header, justify="right" if column.is_number else "left")
    for row in rows:
        table.add_row(
            *[escape(clean(column.show(row))) for column in columns], style="bold red" if is_alarm(row) else None
        )
    console.print(table, highlight=False)
    verdict = sentence(rows)
    if verdict is not None:
        console.print(f"\n{clean(verdict)}\n", style="bold", markup=False, highlight=False, soft_wrap=True)
    for row in rows:
        for line in map(clean, failures([row])):
            console.print(line, style="red" if is_alarm(row) else "dim", markup=False, highlight=False, soft_wrap=True)
    for line in map(clean, foot(rows)):
        console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)
    if left_out:
        console.print(
            f"too narrow for: {', '.join(left_out[:_NAMED])}{others}; --format md --wide has all",
            style="dim",
            markup=False,
            soft_wrap=True,
        )


def foot(rows: Sequence[Row]) -> list[str]:
    """Return the lines below a matrix: unfinished cells, notes on speeds and contradictions, the legend, and more."""
    remarks: dict[str, list[str]] = {}  # runtimes by remark
    for row in rows:
        for text in _remarks(row):
            remarks.setdefault(text, []).append(row.runtime)
    loads: dict[str, list[float]] = {}
    for row in rows:
        if row.machine_description:
            load = row.get("load_1min")
            loads.setdefault(row.machine_description, []).extend([] if load is None else [load])
    machines = [name + (f", load {max(values):.1f}" if values else "") for name, values in loads.items()]
    remark_lines = [f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in remarks.items()]
    contradiction_lines = [f"NOTE contradiction in {text}" for text in contradictions(rows)]
    return [*_unfinished(rows), *speed_notes(rows), *contradiction_lines, *NOTES, *remark_lines, *machines]


def _remarks(row: Row) -> list[str]:
    """Return the notes that qualify the figures of a row."""
    notes = (
        *(row.dtype_note, row.peak_note, row.sandbox_note, row.cache_note),
        *(row.judge_note, row.answers_note, row.shards_note, row.second_try_note, row.expected_note),
    )
    return [text for note in notes if note for text in note.split("; ") if text]


def _unfinished(rows: Sequence[Row]) -> list[str]:
    missing = max((row.get("sweep_missing_cells") or 0 for row in rows), default=0)
    cells_text = "1 cell of this sweep is" if missing == 1 else f"{missing:.0f} cells of this sweep are"
    return (
        [f"UNFINISHED: {cells_text} not recorded yet; the same command with resume=true continues"] if missing else []
    )


def markdown(rows: Sequence[Row], wide: bool = False) -> str:
    """Return a Markdown table, then the verdict, failures and notes. `wide`: with all columns."""
    columns = [column for column in known(rows) if wide or column.rank <= PAGE]
    lines = [
        "| " + " | ".join(markdown_cell(column.header) for column in columns) + " |",
        "|" + "".join(" ---: |" if column.is_number else " --- |" for column in columns),
        *("| " + " | ".join(_shown(column, row) for column in columns) + " |" for row in rows),
    ]
    failure_lines = [_alarmed(row, markdown_cell(line)) for row in rows for line in failures([row])]
    notes = [markdown_cell(note).replace("*", r"\*") for note in foot(rows)]
    verdict_text = sentence(rows)
    verdict_lines = [f"**{markdown_cell(verdict_text)}**"] if verdict_text is not None else []
    return "\n".join(lines) + "\n\n" + "\n\n".join([*verdict_lines, *failure_lines, *notes]) + "\n"


def csv_text(rows: Sequence[Row]) -> str:
    """Return the matrix as CSV with a header of keys; texts that look like formulas get a leading apostrophe."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0].flat()), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _inert(value) for key, value in row.flat().items()} for row in rows)
    return buffer.getvalue()


def json_text(rows: Sequence[Row]) -> str:
    """Return a JSON array of rows, as in `matrix.schema.json`."""
    return json.dumps(plain([row.flat() for row in rows]), indent=1, allow_nan=False) + "\n"


def _shown(column: Metric, row: Row) -> str:
    text = markdown_cell(column.show(row))
    return f"{_RED} **{text}**" if column.key == "status" and is_alarm(row) else text


def _alarmed(row: Row, line: str) -> str:
    name = f"{row.runtime}: {row.status}"
    return f"{_RED} **{name}**{line.removeprefix(name)}" if is_alarm(row) else line


def clean(text: str) -> str:
    """Replace the control characters of a text, except newline and tab: they could control a terminal."""
    return "".join(
        "\ufffd" if unicodedata.category(character) == "Cc" and character not in "\n\t" else character
        for character in text
    )


def markdown_cell(text: str) -> str:
    """Escape a text for one cell of a Markdown table: no tags, no links, no line breaks."""
    text = clean(text).replace("|", r"\|").replace("\n", " ").replace("](", r"]\(")
    return text.replace("<", "&lt;")


def _inert(value: str | float | bool | None) -> str | float | bool | None:
    """Quote a text that a spreadsheet would read as a formula."""
    return f"'{clean(value)}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _fitting(rows: Sequence[Row], width: int) -> tuple[list[Metric], list[str]]:
    columns = known(rows)
    left_out: list[str] = []

    def needed() -> int:
        return sum(max(len(column.header), *(len(column.show(row)) for row in rows)) + 2 for column in columns)

    while needed() > width:
        least = max(reversed(columns), key=lambda column: column.rank)  # ties: the rightmost column
        if least.rank == 0:
            break
        columns.remove(least)
        left_out.insert(0, least.header)
    return columns, left_out
