"""`python -m experiments.report`: the matrix of recorded cells, as a page, a table, Markdown, CSV, JSON or SQLite.

`--ensemble A B` combines the answers of cells, by majority vote or mean log-probability, and shows what that costs.
`--judges A B` compares two judges on the answers that both judged.
`--format lm-eval` and `--format inspect` write the answers as files of lm-evaluation-harness and inspect_ai.
"""

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
from runtime_matrix.experiments.reports.ensemble import ensemble_lines, named_cells
from runtime_matrix.experiments.reports.inspect_logs import write_inspect_logs
from runtime_matrix.experiments.reports.judges import judges_lines
from runtime_matrix.experiments.reports.lm_eval_files import write_lm_eval_files
from runtime_matrix.experiments.reports.page import page_of_rows
from runtime_matrix.experiments.reports.reading import NEWEST, PAGE_FILE, Refused, Results, read, write_page
from runtime_matrix.experiments.reports.schema import row_keys
from runtime_matrix.experiments.reports.sqlite import write_sqlite

# Formats of other programs: a folder of files, by its name within the folder of records.
_FOLDERS = {"lm-eval": ("lm-eval", write_lm_eval_files), "inspect": ("inspect", write_inspect_logs)}
FORMATS = ("table", "html", "md", "csv", "json", "sqlite", *_FOLDERS)
# Formats that are written into the folder, because they are not for a terminal.
_FILES = {"html": PAGE_FILE, "sqlite": "matrix.sqlite"}


def main(argv: Sequence[str] | None = None) -> int:
    """Show the matrix. Return 1 if records were left out, 2 for a user's mistake."""
    options = _parser().parse_args(argv)
    if options.ensemble_by is not None and not options.ensemble:
        print("error: --ensemble-by belongs to --ensemble A B", file=sys.stderr)
        return 2
    if options.ensemble:
        return speaking(lambda: _ensemble(options))
    if options.judges:
        return speaking(lambda: _judges(options))
    return speaking(lambda: _difference(*options.diff) if options.diff else _report(options))


def _report(options: argparse.Namespace) -> int:
    folder = Path(options.folder)
    if options.open and options.format == "table":
        options.format = "html"
    file = published_file(folder)
    if file is not None:
        if options.format in _FOLDERS:
            raise UserError(f"{file} is a published matrix without answers: --format {options.format} needs records")
        return _show(published_rows(file, row_keys()), [], [], options)
    results, refused = read(folder, None if options.all else NEWEST)
    for path, reason in refused:
        print(text.clean(f"left out: {path}: {reason}"), file=sys.stderr)
    if not results:
        print(f"error: none of the {len(refused)} records of {folder} is readable; measure again", file=sys.stderr)
        return 1
    if options.format in _FOLDERS:
        return _export(results, refused, options)
    matrix = [] if options.format == "html" else rows(results, options.all)  # the page derives its own rows
    return _show(matrix, results, refused, options)


def _export(results: Results, refused: Refused, options: argparse.Namespace) -> int:
    """Write the answers as files of another program."""
    name, write = _FOLDERS[options.format]
    folder = Path(options.output) if options.output else Path(options.folder) / name
    try:
        paths = write(results, folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}; --output names another folder") from error
    if not paths:
        raise UserError(f"no record of {options.folder} has answers: measure with a benchmark that scores answers")
    print(f"written: {folder} ({len(paths)} {'cells' if options.format == 'lm-eval' else 'logs'})")
    return 1 if refused else 0


def _show(matrix: Sequence[Row], results: Results, refused: Refused, options: argparse.Namespace) -> int:
    if options.format == "table" and options.output is None:
        from rich.console import Console

        text.render_table(matrix, Console(width=text.width()))
    elif options.output is None and options.format not in _FILES:
        sys.stdout.write(_render(matrix, options))
    else:
        _write(matrix, results, refused, options)
    return 1 if refused else 0


def _write(matrix: Sequence[Row], results: Results, refused: Refused, options: argparse.Namespace) -> None:
    folder = Path(options.folder)
    path = (
        Path(options.output)
        if options.output
        else (folder if folder.is_dir() else folder.parent) / _FILES[options.format]
    )
    try:
        if options.format == "html":
            if results:
                write_page(results, refused, path, options.all)
            else:
                write_atomic(path, page_of_rows(matrix))
        elif options.format == "sqlite":
            write_sqlite(matrix, results, path)
        else:
            write_atomic(path, _render(matrix, options))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; --output names another file") from error
    print(f"written: {path}")
    if options.open:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())


def _render(matrix: Sequence[Row], options: argparse.Namespace) -> str:
    if options.format == "json":
        return text.json_text(matrix)
    return text.csv_text(matrix) if options.format == "csv" else text.markdown(matrix, options.wide)


def _difference(first: str, second: str) -> int:
    both = [read(Path(folder)) for folder in (first, second)]
    for path, reason in [record for _, refused in both for record in refused]:
        print(text.clean(f"left out: {path}: {reason}"), file=sys.stderr)
    (old, _), (new, _) = both
    matrix = rows([*old, *new], all=True)  # together, so that a cell has the same name in both
    for line in lines(latest(matrix[: len(old)]), latest(matrix[len(old) :])):
        print(line)
    return 1 if any(refused for _, refused in both) else 0


def _ensemble(options: argparse.Namespace) -> int:
    members = named_cells(options.ensemble, Path(options.folder))
    printed, refused = ensemble_lines(members, options.ensemble_by or "vote")
    for line in printed:
        print(text.clean(line))
    for reason in refused:
        print(text.clean(f"left out: {reason}"), file=sys.stderr)
    return 1 if refused else 0


def _judges(options: argparse.Namespace) -> int:
    for line in judges_lines(named_cells(options.judges, Path(options.folder), "--judges")):
        print(text.clean(line))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(command_line("report"), description=as_typed(__doc__ or ""))
    parser.add_argument(
        "folder",
        nargs="?",
        default="results/runs",
        help="folder of records, or a published matrix.json (default: %(default)s)",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="table: on the terminal; html: the page (%(default)s)"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="file or folder to write; default for html, sqlite, lm-eval and inspect: in the folder",
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--wide", action="store_true", help="with md: all columns, not only the most important ones")
    parser.add_argument("--all", action="store_true", help="show every record, not only the latest of each cell")
    parser.add_argument("--diff", nargs=2, metavar=("A", "B"), help="show what changed from folder A to folder B")
    parser.add_argument(
        "--ensemble",
        nargs="+",
        metavar="CELL",
        help="combine the answers of cells: folders of one record each, or cells of the folder by their runtime, "
        "RUNTIME-MODEL, strategy or record",
    )
    parser.add_argument(
        "--judges",
        nargs=2,
        metavar=("A", "B"),
        help="compare the verdicts of two cells with different judges, which are named as for --ensemble",
    )
    parser.add_argument(
        "--ensemble-by", choices=("vote", "logprob"), help="majority vote (default), or mean log-probability of choices"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
