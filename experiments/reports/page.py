"""The page: matrix, recommendations, Pareto front, cells and trends in one HTML file without external resources."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from runtime_matrix.experiments.analysis.columns import PAGE, SCORES, SPEEDS, STAND_INS, is_alarm, known
from runtime_matrix.experiments.analysis.explanation import Explainer
from runtime_matrix.experiments.analysis.matrix import latest, rows
from runtime_matrix.experiments.analysis.ranking import mark_best
from runtime_matrix.experiments.analysis.trends import METRICS, Series, trends
from runtime_matrix.experiments.config.program import command_line
from runtime_matrix.experiments.ledger.claim import read_claims
from runtime_matrix.experiments.ledger.judging import Judged, judge
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.journal import plain
from runtime_matrix.experiments.records.metric import GROUPS, Group, Metric
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.reports.cards import answers
from runtime_matrix.experiments.reports.claims_table import LEGEND, why
from runtime_matrix.experiments.reports.detail import Detail, detail
from runtime_matrix.experiments.reports.flipped import Flipped
from runtime_matrix.experiments.reports.page_data import PageData, axis_labels, page_data
from runtime_matrix.experiments.reports.strategies import GAIN
from runtime_matrix.experiments.reports.text import foot
from runtime_matrix.experiments.reports.verdict import bars, sentence
from runtime_matrix.experiments.tasks.registry import benchmarks

if TYPE_CHECKING:
    from jinja2 import Template

ASSETS = Path(__file__).with_name("assets")
_SCRIPTS = (
    "start",
    "chart",
    "matrix",
    "pareto",
    "distribution",
    "audit",
    "cell",
    "detection",
    "strategies",
    "serving",
    "trends",
    "main",
)  # in this order
_ITEMS_BYTES = 800_000  # of flipped items on a page: 50 cells stay below 2 MB
_DETAILED = 300  # the latest cells get distributions and items; older ones only a row
_FOLDED_BELOW = 15  # rows: filters are folded for fewer
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_HASHES = "HASHES-OF-THE-SCRIPTS"
# Defence in depth: markup from a record cannot run scripts or reach a network.
_POLICY = f"default-src 'none'; script-src {_HASHES}; style-src 'unsafe-inline'; img-src data:; form-action 'none'"
# A reader asks for speed and answers first; the other groups follow in the order of every matrix.
_FIRST: tuple[Group, ...] = ("cell", "speed", "latency", "answers", "memory", "agreement", "throughput")
_GROUPS = (*_FIRST, *(group for group in GROUPS if group not in _FIRST))


@dataclass(frozen=True)
class Line:
    """A row of the static table: texts, and marks that do not depend on colour."""

    id: str
    is_reference: bool
    status: str
    status_class: str
    is_alarm: bool
    reason: str | None
    cells: list[tuple[Metric, str, str]]  # text and mark


def page(results: Sequence[Result], refused: Sequence[tuple[str, str]] = (), all_records: bool = False) -> str:
    """Return the page as HTML. `results`: of a folder, oldest first; `refused`: paths and reasons of unread records."""
    all_rows = rows(results, all=True)
    rows_shown = all_rows if all_records else latest(all_rows)
    cells, broken = _cells(results, rows_shown, Explainer(results, all_rows))
    return page_of_rows(rows_shown, [*refused, *broken], cells, trends(all_rows))


def page_of_rows(
    rows: Sequence[Row],
    refused: Sequence[tuple[str, str]] = (),
    cells: Mapping[str, Detail] | None = None,
    series: Sequence[Series] = (),
) -> str:
    """Return the page for rows alone, as of a published matrix. `cells`: details by record id, shown on demand."""
    columns = sorted(known(rows), key=lambda column: _GROUPS.index(column.group))
    marks = mark_best(rows, columns)
    text: str = _template().render(
        title=_title(rows),
        facts=_facts(rows),
        css=(ASSETS / "page.css").read_text(encoding="utf-8"),
        js="\n".join((ASSETS / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS),
        data=_embedded(page_data(rows, columns, marks, cells or {}, series)),
        answers=answers(rows),
        verdict=sentence(rows),
        bars=bars(rows),
        are_few=len(rows) < _FOLDED_BELOW,
        columns=columns,
        groups=_groups(columns),
        views=_views(columns),
        benchmarks=_benchmarks(columns),
        rows=[_line(row, columns, marks) for row in rows],
        page_rank=PAGE,
        notes=foot(rows),
        refused=refused,
        claims=_claims(rows),
        legend_of_claims=LEGEND,
        metrics=METRICS,
        axes=axis_labels(columns),
        x_axes=[key for key in SPEEDS if any(column.key == key for column in columns)],
        y_axes=[key for key in SCORES if any(key in (column.key, STAND_INS.get(column.key)) for column in columns)],
        choices=_choices(rows),
        has_trends=bool(series),
        has_strategies=any(row.get(GAIN) is not None for row in rows),
        has_serving=any(cell.serving for cell in (cells or {}).values()),
        commands={name: command_line(name) for name in ("advise", "report", "claims")},
        has_alarms=any(is_alarm(row) for row in rows),
        policy=_POLICY,
    )
    return text.replace(_HASHES, " ".join(f"'sha256-{_digest(script)}'" for script in _SCRIPT.findall(text)), 1)


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _template() -> Template:
    import jinja2

    loader = jinja2.FileSystemLoader(ASSETS)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("page.html")


def _embedded(data: PageData) -> str:
    """Return JSON that is safe within a script element: it cannot contain `</script>`."""
    return json.dumps(plain(data), separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def _cells(
    results: Sequence[Result], rows: Sequence[Row], explainer: Explainer
) -> tuple[dict[str, Detail], list[tuple[str, str]]]:
    """Return the details by record id, and the folders of records without details, with the reason."""
    by_id = {result.record.record_id: result for result in results}
    newest = sorted(rows, key=lambda row: row.started_at)[-_DETAILED:]
    flipped = Flipped(_ITEMS_BYTES)
    share = _ITEMS_BYTES // max(1, min(len(newest), 40))
    records = [result.record for result in results if result.record.is_reference]
    references = {(record.run_id, record.model.digest, record.max_tokens): record for record in records}
    cells: dict[str, Detail] = {}
    broken: list[tuple[str, str]] = []
    for row in newest:
        result = by_id[row.record_id]
        try:
            key = (row.run_id, row.model_digest, result.record.max_tokens)
            reference = references.get(key)
            cells[row.record_id] = detail(result, row, flipped.of(result, share), reference, explainer.explain(result))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
            broken.append((str(result.folder), f"its details cannot be shown: {type(error).__name__}: {error}"))
    return cells, broken


def _line(row: Row, columns: Sequence[Metric], marks: Mapping[tuple[str, str], str]) -> Line:
    return Line(
        id=row.record_id,
        is_reference=row.is_reference,
        status=row.status,
        status_class=status_class(row),
        is_alarm=is_alarm(row),
        reason=row.reason,
        cells=[(column, column.show(row), marks.get((row.record_id, column.key), "")) for column in columns],
    )


def status_class(row: Row) -> str:
    """Return a status as CSS classes: spaces become hyphens, and ` alarm` is added for failed timing."""
    return row.status.replace(" ", "-") + (" alarm" if is_alarm(row) else "")


def _claims(rows: Sequence[Row]) -> list[tuple[Judged, str]]:
    """Return the claims of others that these rows measure, and by what."""
    return [(judged, why(judged)) for judged in judge(read_claims(), rows) if judged.evidence is not None]


def _benchmarks(columns: Sequence[Metric]) -> list[str]:
    """Return the titles of the benchmarks that have columns, in the order of the matrix."""
    titles = {column.benchmark for column in columns}
    return [task.title for task in benchmarks().values() if task.title in titles]


def _groups(columns: Sequence[Metric]) -> list[tuple[str, list[Metric]]]:
    groups: list[tuple[str, list[Metric]]] = []
    for column in columns:
        if not groups or groups[-1][0] != column.group:
            groups.append((column.group, []))
        groups[-1][1].append(column)
    return groups


def _views(columns: Sequence[Metric]) -> list[str]:
    """Return the groups with columns of several benchmarks, or of none."""
    benchmarks_of: dict[str, set[str]] = {}
    for column in columns:
        benchmarks_of.setdefault(column.group, set()).add(column.benchmark)
    return [
        group
        for group, benchmarks in benchmarks_of.items()
        if group != "cell" and (len(benchmarks) > 1 or benchmarks == {""})
    ]


def _title(rows: Sequence[Row]) -> str:
    models = sorted({row.model_title or row.model for row in rows})
    shown = ", ".join(models[:3]) + (" and others" if len(models) > 3 else "")
    places = sorted({f"{row.processor or row.hw}, {_threads(row.threads)}" for row in rows})
    return f"{shown} on {places[0] if len(places) == 1 else f'{len(places)} machines'}"


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count != 1 else ''}"


def _facts(rows: Sequence[Row]) -> list[tuple[str, str]]:
    measured = sum(row.status == "ok" for row in rows)
    days = sorted({row.started_at[:10] for row in rows})
    commits = sorted({row.commit[:7] for row in rows if row.commit})
    return [
        ("cells", f"{len(rows)}"),
        ("measured", f"{measured}"),
        ("runs", f"{len({row.run_id for row in rows})}"),
        ("threads", ", ".join(sorted({str(row.threads) for row in rows}))),
        ("measured on", days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"),
        ("commit", ", ".join(commits[-3:]) or "not in git"),
        ("generated", datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")),
    ]


def _choices(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the options of each filter; filters with a single option are left out."""
    options: dict[str, set[str]] = {
        "runtime": {row.runtime for row in rows},
        "hardware": {f"{row.hw}, {row.processor}" for row in rows},
        "model": {row.model for row in rows},
        "status": {row.status for row in rows},
    }
    return {title: sorted(values) for title, values in options.items() if len(values) > 1}
