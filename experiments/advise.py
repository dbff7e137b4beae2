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
    """Advise; 3 where no measured cell qualifies, 1 where records had to be left out, 2 for a user's mistake."""
    asked = _parser().parse_args(argv)
    return speaking(lambda: _advise(asked))


def _advise(asked: argparse.Namespace) -> int:
    limits = (asked.min_accuracy, asked.max_memory_gib, asked.max_ttft_s)
    wish = Constraints(asked.goal, *limits, asked.usd_per_hour, asked.accept_unshown)
    found, was_left_out = _rows(Path(asked.folder))
    found = _of_one_model(found, asked.model)
    chosen = choose(found, wish)
    here = {hw: machine(environment(), hw) for hw in {row.hw for row in found}}
    said = [*advice_lines(chosen, wish), *caveats(found, here, wish)]
    steps = next_steps(found, wish)
    if steps:
        said += ["", "try next:", *(f"  {step.command}\n      {step.why}" for step in steps)]
    print(clean("\n".join(said)))
    if chosen.best is None:
        return 3
    return 1 if was_left_out else 0


def _rows(path: Path) -> tuple[list[Row], bool]:
    """Return the rows of a folder of records, or of a published matrix (JSON, or a folder with matrix.json)."""
    file = published_file(path)
    if file is not None:
        return published_rows(file, row_keys()), False
    results, refused = read(path)
    for place, reason in refused:
        print(clean(f"left out: {place}: {reason}"), file=sys.stderr)
    if not results:
        raise UserError(f"none of the records of {path} can be read; measure again")
    return rows(results), bool(refused)


def _of_one_model(found: Sequence[Row], name: str | None) -> list[Row]:
    """Return the rows of the model that was asked for, or of the one that there is. UserError where it is open."""
    models = {row.model for row in found}
    if name is None and len(models) > 1:
        raise UserError(f"cells of several models are recorded: choose with --model {' or '.join(sorted(models))}")
    if name is not None and name not in models:
        raise UserError(f"--model {name} is not recorded{did_you_mean(name, models)}")
    return [row for row in found if name in (None, row.model)]


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0; found {text}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(command_line("advise"), description=as_typed(__doc__ or ""))
    parser.add_argument("folder", nargs="?", default="results/runs", help="records, or a matrix.json (%(default)s)")
    parser.add_argument("--goal", choices=GOALS, default="latency", help="what to be best at (%(default)s)")
    parser.add_argument(
        "--min-accuracy", type=_positive, metavar="SHARE", help="of the reference's score, as a lower bound: 0.99"
    )
    parser.add_argument(
        "--accept-unshown",
        action="store_true",
        help="let a cell qualify by its estimate where its lower bound does not reach --min-accuracy",
    )
    parser.add_argument(
        "--max-memory-gib", type=_positive, metavar="GIB", help="peak, on the device where there is one"
    )
    parser.add_argument("--max-ttft-s", type=_positive, metavar="S", help="time to the first token, median")
    parser.add_argument("--usd-per-hour", type=_positive, metavar="USD", help="what the machine costs, for --goal cost")
    parser.add_argument("--model", help="where cells of several models are recorded")
    return parser


if __name__ == "__main__":
    sys.exit(main())
