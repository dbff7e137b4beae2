"""`python -m experiments.advise`: the best measured cell under constraints, its alternatives, and what to try next."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.advice.choose import GOALS, Constraints, choose
from runtime_matrix.experiments.advice.next_steps import next_steps
from runtime_matrix.experiments.advice.phrasing import advice_lines, caveats
from runtime_matrix.experiments.analysis.matrix import machine, rows
from runtime_matrix.experiments.cli.command import speaking
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.program import as_typed, command_line
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.published import published_file, published_rows
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.reports.reading import read
from runtime_matrix.experiments.reports.schema import row_keys
from runtime_matrix.experiments.reports.text import clean


def main(argv: Sequence[str] | None = None) -> int:
    """Print the advice. Return 3 if no cell qualifies, 1 if records were left out, 2 for a user's mistake."""
    options = _parser().parse_args(argv)
    return speaking(lambda: _advise(options))


def _advise(options: argparse.Namespace) -> int:
    limits = (options.min_accuracy, options.max_memory_gib, options.max_ttft_s)
    constraints = Constraints(options.goal, *limits, options.usd_per_hour, options.accept_unshown)
    matrix, has_refused = _rows(Path(options.folder))
    matrix = _of_one_model(matrix, options.model)
    choice = choose(matrix, constraints)
    machines = {hw: machine(environment(), hw) for hw in {row.hw for row in matrix}}
    lines = [*advice_lines(choice, constraints), *caveats(matrix, machines, constraints)]
    steps = next_steps(matrix, constraints)
    if steps:
        lines += ["", "try next:", *(f"  {step.command}\n      {step.why}" for step in steps)]
    print(clean("\n".join(lines)))
    if choice.best is None:
        return 3
    return 1 if has_refused else 0


def _rows(path: Path) -> tuple[list[Row], bool]:
    """Return the rows of a folder of records or of a published matrix, and whether records were left out."""
    file = published_file(path)
    if file is not None:
        return published_rows(file, row_keys()), False
    results, refused = read(path)
    for record_path, reason in refused:
        print(clean(f"left out: {record_path}: {reason}"), file=sys.stderr)
    if not results:
        raise UserError(f"{path} has no readable record; measure again")
    return rows(results), bool(refused)


def _of_one_model(matrix: Sequence[Row], name: str | None) -> list[Row]:
    """Return the rows of the named or only model; UserError if it is not recorded, or several are and none is named."""
    models = {row.model for row in matrix}
    if name is None and len(models) > 1:
        raise UserError(f"cells of several models are recorded: choose with --model {' or '.join(sorted(models))}")
    if name is not None and name not in models:
        raise UserError(f"--model {name} is not recorded{did_you_mean(name, models)}")
    return [row for row in matrix if name in (None, row.model)]


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0; found {text}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(command_line("advise"), description=as_typed(__doc__ or ""))
    parser.add_argument(
        "folder", nargs="?", default="results/runs", help="folder of records, or a matrix.json (%(default)s)"
    )
    parser.add_argument("--goal", choices=GOALS, default="latency", help="what to optimize (%(default)s)")
    parser.add_argument(
        "--min-accuracy",
        type=_positive,
        metavar="SHARE",
        help="smallest share of the reference's score, for the lower bound: 0.99",
    )
    parser.add_argument(
        "--accept-unshown",
        action="store_true",
        help="accept a cell whose estimate reaches --min-accuracy, even if its lower bound does not",
    )
    parser.add_argument(
        "--max-memory-gib", type=_positive, metavar="GIB", help="largest peak memory, of the GPU if there is one"
    )
    parser.add_argument("--max-ttft-s", type=_positive, metavar="S", help="largest median time to first token")
    parser.add_argument("--usd-per-hour", type=_positive, metavar="USD", help="price of the machine, for --goal cost")
    parser.add_argument("--model", help="name of the model, if cells of several models are recorded")
    return parser


if __name__ == "__main__":
    sys.exit(main())
