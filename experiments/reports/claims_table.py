"""Judged claims as text: lines for a terminal, and Markdown by document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from runtime_matrix.experiments.ledger.judging import Judged, closing_line
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.reports.text import markdown_cell

_HEAD = ("claim", "section", "claimed", "measured [95 %]", "verdict", "measured by; why not")
LEGEND = (
    "×: how much better the figure becomes, old / new for time, memory and money, new / old for scores; below 1 it is "
    "a loss. A value without an interval is exact, or was measured once."
)


def markdown(judged: Sequence[Judged], command: str) -> str:
    """Return the claims as Markdown: the closing line, a table for each document, and what was measured where."""
    lines = ["# Claims of others beside measurements", "", f"**{closing_line(judged)}.** `{command}`", "", LEGEND, ""]
    for document, group in groupby(judged, lambda one: one.claim.document):
        lines += [f"## {document}", "", _row(_HEAD), _row(["---"] * len(_HEAD))]
        lines += [_row(_cells(one)) for one in group]
        lines.append("")
    return "\n".join([*lines, *(f"{markdown_cell(line)}\n" for line in sources(judged))])


def text_lines(judged: Sequence[Judged]) -> Iterator[str]:
    """Yield the claims for a terminal, one line each and one for its reason, and the closing line."""
    for document, group in groupby(judged, lambda one: one.claim.document):
        yield document
        for one in group:
            yield f"  {one.claim.id:24} {one.claimed:20} | {one.measured:28} | {one.verdict}"
            if reason := why(one):
                yield f"      {reason}"
    yield LEGEND
    yield from sources(judged)
    yield closing_line(judged)


def sources(judged: Sequence[Judged]) -> list[str]:
    """Return one line for each run whose figures were used: machine, threads, model, date, commit."""
    rows = [one.evidence.row for one in judged if one.evidence is not None]
    return [f"run {row.run_id}: {_place(row)}" for row in {row.run_id: row for row in rows}.values()]


def _place(row: Row) -> str:
    parts = (
        row.machine_description or row.processor or row.hw,
        f"{row.threads} thread{'s' if row.threads != 1 else ''}",
        row.model_title or row.model,
        row.started_at[:10],
        f"commit {row.commit[:7]}" if row.commit else "not in git",
    )
    return ", ".join(parts)


def _cells(one: Judged) -> list[str]:
    claim = one.claim
    summary = f"`{claim.id}`: {claim.summary}" + (f" Baseline: {claim.baseline}." if claim.baseline else "")
    summary += f" Hardware: {claim.hardware}." if claim.hardware else ""
    return [summary, claim.section, one.claimed, one.measured, one.verdict, why(one)]


def why(one: Judged) -> str:
    """Return what measured a claim, why it is not measured or comparable, and the note."""
    by = one.claim.measured_by
    phrase = by.phrase if by is not None and one.evidence is not None else ""
    parts = [phrase, f"ours: {one.reason}" if phrase and one.reason else one.reason]
    return "; ".join(part for part in parts if part) + (f". {one.claim.note}" if one.claim.note else "")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(markdown_cell, cells))} |"
