"""Search for the best configuration for a goal: cheap trials of all candidates, longer ones of those that remain.

  python -m experiments.search goal=throughput constraint.accuracy=0.99 constraint.memory_gib=4
  python -m experiments.search goal=latency runtime=eager,onnxruntime hw.threads=1,2 'benchmark=[latency,memory]'
  python -m experiments.search goal=memory experiment=full constraint.accuracy=0.98

Candidates are the cells of the sweep; without one, those of conf/experiment/search.yaml. A candidate is dropped once
the intervals show that it breaks a constraint, or that it is worse than a candidate that meets them all.
Own options: goal, latency (default), throughput or memory; constraint.accuracy, the smallest share of the reference's
scores; constraint.memory_gib, the largest peak; constraint.ttft_s, the longest time to the first token.
Every trial is a record, and the same command continues a search. It takes all overrides of python -m experiments.run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.jobs import refuse_hydra_launchers
from runtime_matrix.experiments.cli.command import run_command
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.reports.text import clean
from runtime_matrix.experiments.searching.policy import best
from runtime_matrix.experiments.searching.report import SEARCH_FILE, result_lines, write_search
from runtime_matrix.experiments.searching.request import Level, levels_of, read_request, space_of
from runtime_matrix.experiments.searching.trials import search
from runtime_matrix.experiments.sweeps.sweep import sweep


def main(argv: Sequence[str] | None = None) -> int:
    """Search. Return 3 if no candidate is shown to meet the constraints, 2 for a user's mistake."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises, and errors are printed in one line
    return run_command(argv, __doc__, _search, "every trial is recorded; the same command continues")


def _search(words: Sequence[str]) -> int:
    request, given = read_request(words)
    refuse_hydra_launchers(given.overrides)
    space = space_of(given)
    results = Path(space.reference.cell(Level(None, None)).config.results_dir)
    found = search(space, levels_of(space.reference.resolved), request, _measure)
    write_search(space, found, request, results)
    if not found.is_whole:
        print("trials are left: the same command continues")
        return 3
    print(clean("\n".join(result_lines(space, found, request))))
    print(f"records: {results}/*/record.json   search: {results / SEARCH_FILE}")
    return 3 if best(found.finalists) is None else 0


def _measure(cells: Sequence[Cell]) -> tuple[Sequence[Result], bool]:
    outcome = sweep(cells)
    return outcome.results, outcome.is_whole


if __name__ == "__main__":
    sys.exit(main())
