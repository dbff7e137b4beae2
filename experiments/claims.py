"""`python -m experiments.claims`: what five documents claim, beside what was measured, with a verdict on each claim."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.cli.command import speaking
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import as_typed, command_line
from runtime_matrix.experiments.ledger.claim import chosen, read_claims
from runtime_matrix.experiments.ledger.judging import closing_line, judge
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.store import write_atomic
from runtime_matrix.experiments.reports.claims_table import markdown, text_lines
from runtime_matrix.experiments.reports.places import result_folders, rows_at
from runtime_matrix.experiments.reports.text import clean


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
    named = places or result_folders()
    found = [row for place in named for row in rows_at(place)]
    if not found:
        raise UserError(f"{', '.join(map(str, named))}: no record or matrix; measure first: python -m experiments.run")
    return found


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
