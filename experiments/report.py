"""`python -m experiments.report`: the matrix of recorded cells, as a page, a table, Markdown, CSV, JSON or SQLite."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.analysis.difference import lines
from runtime_matrix.experiments.analysis.matrix import latest, rows
from runtime_matrix.experiments.cli.command import speaking
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import as_typed, command_line
from runtime_matrix.experiments.records.published import published_file, published_rows
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.store import write_atomic
from runtime_matrix.experiments.reports import text
from runtime_matrix.experiments.reports.page import page_of_rows
from runtime_matrix.experiments.reports.reading import NEWEST, PAGE_FILE, Refused, Results, read, write_page
from runtime_matrix.experiments.reports.schema import row_keys
from runtime_matrix.experiments.reports.sqlite import write_sqlite

FORMATS = ("table", "html", "md", "csv", "json", "sqlite")
_FILES = {"html": PAGE_FILE, "sqlite": "matrix.sqlite"}  # what is not for a terminal goes into the folder itself


def main(argv: Sequence[str] | None = None) -> int:
    """Show the matrix; 1 where records had to be left out, 2 for a user's mistake."""
    asked = _parser().parse_args(argv)
    return speaking(lambda: _difference(*asked.diff) if asked.diff else _report(asked))


def _report(asked: argparse.Namespace) -> int:
    folder = Path(asked.folder)
    if asked.open and asked.format == "table":
        asked.format = "html"
    file = published_file(folder)
    if file is not None:
        return _show(published_rows(file, row_keys()), [], [], asked)
    results, refused = read(folder, None if asked.all else NEWEST)
    for path, reason in refused:
        print(text.clean(f"left out: {path}: {reason}"), file=sys.stderr)
    if not results:
        print(f"error: none of the {len(refused)} records of {folder} can be read; measure again", file=sys.stderr)
        return 1
    found = [] if asked.format == "html" else rows(results, asked.all)  # the page makes its own
    return _show(found, results, refused, asked)


def _show(found: Sequence[Row], results: Results, refused: Refused, asked: argparse.Namespace) -> int:
    if asked.format == "table" and asked.output is None:
        from rich.console import Console

        text.render_table(found, Console(width=text.width()))
    elif asked.output is None and asked.format not in _FILES:
        sys.stdout.write(_render(found, asked))
    else:
        _write(found, results, refused, asked)
    return 1 if refused else 0


def _write(found: Sequence[Row], results: Results, refused: Refused, asked: argparse.Namespace) -> None:
    folder = Path(asked.folder)
    path = Path(asked.output) if asked.output else (folder if folder.is_dir() else folder.parent) / _FILES[asked.format]
    try:
        if asked.format == "html":
            if results:
                write_page(results, refused, path, asked.all)
            else:
                write_atomic(path, page_of_rows(found))
        elif asked.format == "sqlite":
            write_sqlite(found, results, path)
        else:
            write_atomic(path, _render(found, asked))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; --output names another file") from error
    print(f"written: {path}")
    if asked.open:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())


def _render(found: Sequence[Row], asked: argparse.Namespace) -> str:
    if asked.format == "json":
        return text.json_text(found)
    return text.csv_text(found) if asked.format == "csv" else text.markdown(found, asked.wide)


def _difference(first: str, second: str) -> int:
    both = [read(Path(folder)) for folder in (first, second)]
    for path, reason in [one for _, refused in both for one in refused]:
        print(text.clean(f"left out: {path}: {reason}"), file=sys.stderr)
    (old, _), (new, _) = both
    found = rows([*old, *new], all=True)  # together, so that a cell has one name in both
    for line in lines(latest(found[: len(old)]), latest(found[len(old) :])):
        print(line)
    return 1 if any(refused for _, refused in both) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(command_line("report"), description=as_typed(__doc__ or ""))
    parser.add_argument(
        "folder",
        nargs="?",
        default="results/runs",
        help="where the records are, or a published matrix.json (default: %(default)s)",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="table on the terminal; html the page (%(default)s)"
    )
    parser.add_argument("--output", metavar="FILE", help="write there; html and sqlite are else put into the folder")
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    parser.add_argument("--wide", action="store_true", help="all columns in md, not only the most important ones")
    parser.add_argument("--all", action="store_true", help="every record, not only the latest of each cell")
    parser.add_argument("--diff", nargs=2, metavar=("A", "B"), help="what changed from the folder A to the folder B")
    return parser


if __name__ == "__main__":
    sys.exit(main())
