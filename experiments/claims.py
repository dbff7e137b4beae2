"""`python -m experiments.claims`: what five documents claim, beside what was measured, with a verdict on each claim."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.cli.command import speaking
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import as_typed, command_line
from runtime_matrix.experiments.ledger.claim import chosen, read_claims
from runtime_matrix.experiments.ledger.judging import closing_line, judge
from runtime_matrix.experiments.records.published import published_rows
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.store import cell_folders, write_atomic
from runtime_matrix.experiments.reports.claims_table import markdown, text_lines
from runtime_matrix.experiments.reports.reading import read
from runtime_matrix.experiments.reports.schema import row_keys
from runtime_matrix.experiments.reports.text import clean

_HOME = Path("results")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the claims with their verdicts. Return 0, or 2 for a user's mistake."""
    options = _parser().parse_args(argv)
    return speaking(lambda: _claims(options))


def _claims(options: argparse.Namespace) -> int:
    claims = chosen(read_claims(), options.only)
    judged = judge(claims, _all_rows([Path(name) for name in options.results]))
    if options.output is None:
        print(clean("\n".join(text_lines(judged))))
        return 0
    path = Path(options.output)
    words = [*options.results, *(word for name in options.only for word in ("--only", name))]
    text = markdown(judged, " ".join(["python -m experiments.claims", *map(shlex.quote, words)]))
    try:
        write_atomic(path, text)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; --output names another file") from error
    print(f"written: {path}\n{closing_line(judged)}")
    return 0


def _all_rows(places: Sequence[Path]) -> list[Row]:
    """Return the rows of all places, or of each folder in `results` if none is named."""
    named = places or (sorted(path for path in _HOME.iterdir() if path.is_dir()) if _HOME.is_dir() else [_HOME])
    found = [row for place in named for row in _rows(place)]
    if not found:
        raise UserError(f"{', '.join(map(str, named))}: no record or matrix; measure first: python -m experiments.run")
    return found


def _rows(place: Path) -> list[Row]:
    """Return the rows of a folder of records, of the matrices in one, or of a matrix; UserError for a bad one."""
    if place.is_dir():
        return (
            _recorded(place) if cell_folders(place) else [row for path in _matrices(place) for row in _published(path)]
        )
    if not place.is_file():
        raise UserError(f"{place} is not a folder or a file; measure first: python -m experiments.run")
    if place.suffix != ".json":
        print(clean(f"not read: {place}: no matrix"), file=sys.stderr)
        return []
    return _published(place)


def _recorded(folder: Path) -> list[Row]:
    results, refused = read(folder)
    for path, reason in refused:
        raise UserError(f"{path} cannot be read: {reason}; remove it, or measure again")
    return rows(results)


def _published(path: Path) -> list[Row]:
    return published_rows(path, row_keys())


def _matrices(folder: Path) -> Iterator[Path]:
    """Yield the JSON files of a folder that hold an array, as matrices do; results of other programs are objects."""
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} is not JSON: {error}; write a matrix: report --format json") from error
        if isinstance(content, list):
            yield path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(command_line("claims"), description=as_typed(__doc__ or ""))
    parser.add_argument(
        "results",
        nargs="*",
        metavar="RESULTS",
        help="folders of records, folders of published matrices, or matrix files (default: each folder in results)",
    )
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="one claim; may be repeated")
    parser.add_argument("--output", metavar="FILE", help="write Markdown there instead of printing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
