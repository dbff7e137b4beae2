"""`python -m experiments.explain`: why a cell is slower, larger or less accurate than its reference.

Slower: the cell and its reference are profiled outside the timed runs, and what grew most is the cause. Less accurate:
the cells one change apart between the reference and the cell show which change carries the loss.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.analysis.explanation import Explainer, reference_of
from runtime_matrix.experiments.analysis.ladder import Ladder
from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.cli.command import measuring
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.program import as_typed, command_line, recorded_command
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.profile import read_profile
from runtime_matrix.experiments.reports.explanation import ladder_table, lines
from runtime_matrix.experiments.reports.reading import Results, read
from runtime_matrix.experiments.reports.text import clean
from runtime_matrix.experiments.sweeps.explaining import ladder_cells, take_profiles
from runtime_matrix.experiments.sweeps.sweep import run_sweep


def main(argv: Sequence[str] | None = None) -> int:
    """Print the explanation. Return 3 if there is nothing to explain, 1 if a part failed, 2 for a user's mistake."""
    words = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(words)
    return measuring(lambda: _explain(options, recorded_command("explain", words)), "profiles that were taken are kept")


def _explain(options: argparse.Namespace, command: str) -> int:
    folder, name = _place(options.cell, Path(options.results))
    results, _ = read(folder)
    chosen = _chosen(results, name)
    failed = False
    if options.ladder:
        if len(chosen) != 1:
            raise UserError("--ladder needs one cell: name its record, or a runtime of the newest run")
        failed = run_sweep(ladder_cells(chosen[0], command)) == 1
        results, _ = read(folder)
        chosen = _chosen(results, name)
    if not options.no_profile:
        failures = take_profiles(_unprofiled(chosen, results))
        failed = failed or bool(failures)
        for record_id, reason in failures.items():
            print(clean(f"no profile of {record_id}: {reason}"), file=sys.stderr)
    explained = _print(chosen, results)
    return 1 if failed else 0 if explained else 3


def _print(chosen: Sequence[Result], results: Results) -> int:
    """Print the explanations, and return how many there are."""
    matrix, count = rows(results, all=True), 0
    explainer, row_of = Explainer(results, matrix), {row.record_id: row for row in matrix}
    for result in chosen:
        explained, row = explainer.explain(result), row_of[result.record.record_id]
        if explained is None:
            reason = "the reference" if result.record.is_reference else result.record.reason or "it has no reference"
            print(clean(f"{row.runtime}: {row.status}: {reason}"))
            continue
        count += 1
        print(clean("\n".join(lines(row, explained))))
        if explained.ladder is not None:
            print(clean("\n".join(ladder_table(explained.ladder))))
            _print_missing(explained.ladder, result)
    return count


def _print_missing(ladder: Ladder, result: Result) -> None:
    if any(step.record_id is None or step.kl is None for step in ladder.steps):
        print(f"  the missing steps: {command_line('explain', [str(result.folder), '--ladder'])}")


def _place(cell: str | None, results: Path) -> tuple[Path, str | None]:
    """Return the folder of records and the name of the cell in it: a record's folder names both."""
    if cell is not None and any((Path(cell) / name).is_file() for name in ("record.json", "journal.jsonl")):
        path = Path(cell).resolve()
        return Path(cell).parent if Path(cell).name else path.parent, path.name
    return results, cell


def _chosen(results: Results, name: str | None) -> list[Result]:
    """Return the named record, or the newest cell of that name; without a name, all cells of the newest run."""
    if not results:
        raise UserError("no record is readable; measure first: python -m experiments.run")
    if name is None:
        return [result for result in results if result.record.run_id == results[-1].record.run_id]
    named = [result for result in results if name in (result.record.record_id, result.record.runtime.name)]
    if not named:
        known = {word for result in results for word in (result.record.record_id, result.record.runtime.name)}
        raise UserError(f"{name} is not recorded{did_you_mean(name, known)}; choose another folder with --results")
    return named[-1:]


def _reference(result: Result, results: Results) -> Result:
    reference = reference_of(result, results)
    if reference is None:
        raise UserError(f"{result.record.record_id} has no reference in its run: measure both in one sweep")
    return reference


def _unprofiled(chosen: Sequence[Result], results: Results) -> list[Result]:
    """Return the cells that are slower than their reference for an unknown cause, and their references."""
    explainer = Explainer(results, rows(results, all=True))
    needed: dict[str, Result] = {}
    for result in chosen:
        explained = explainer.explain(result)
        if explained is not None and explained.needs_profile:
            for one in (_reference(result, results), result):
                if read_profile(one.folder)[0] is None:
                    needed[one.record.record_id] = one
    return list(needed.values())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(command_line("explain"), description=as_typed(__doc__ or ""))
    parser.add_argument(
        "cell", nargs="?", help="record id, a record's folder, or a runtime's name; without it, the newest run's cells"
    )
    parser.add_argument("--results", default="results/runs", metavar="DIR", help="folder of records (%(default)s)")
    parser.add_argument("--no-profile", action="store_true", help="only read: profile no cell")
    parser.add_argument(
        "--ladder", action="store_true", help="measure the cells between the reference and this one, as a sweep"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
