"""Compare two runtimes in speed, memory and outputs; every difference has its interval.

  python -m experiments.compare runtime=onnxruntime against=eager
  python -m experiments.compare runtime=compile against=eager model=local model.path=DIR comparison.launches=10
  python -m experiments.compare runtime=eager against=eager      the noise of this machine

Each is measured alone for memory and outputs. For speed, both processes are alive and take turns. Launches of fresh
processes are added until the interval is narrower than comparison.ci_width, at most comparison.most_launches.
Own option: against, the runtime to compare with (eager). It also takes all overrides of `python -m experiments.run`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.cells.overrides import cells, own_words
from runtime_matrix.experiments.cli.command import run_command
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import recorded_command
from runtime_matrix.experiments.execution.progress import Progress
from runtime_matrix.experiments.records.comparison import Launch
from runtime_matrix.experiments.records.ratios import Clock, ratio
from runtime_matrix.experiments.records.store import attach
from runtime_matrix.experiments.reports.comparison import verdict_lines
from runtime_matrix.experiments.sweeps.after_sweep import compare_outputs
from runtime_matrix.experiments.sweeps.measure import measure_cells
from runtime_matrix.experiments.timing.interleave import compare_speed
from runtime_matrix.experiments.timing.runner import Runner


def main(argv: Sequence[str] | None = None) -> int:
    """Compare. Return 3 if the failing runtimes are unsupported here, 1 for other failures, 2 for a user's mistake."""
    return run_command(argv, __doc__, _compare)


def _compare(words: Sequence[str]) -> int:
    own, given = own_words(words, {"against": "eager"})
    command = recorded_command("compare", words)
    reference, candidates = cells(given, str(own["against"]), command, ["comparison.launches=null"])
    if len(candidates) > 1:
        raise UserError("compare takes two runtimes, not a sweep: runtime=NAME against=NAME")
    candidate = candidates[0]
    results = Path(candidate.config.results_dir)
    with Progress(2, candidate.config.progress) as progress:
        first, second = measure_cells([reference, candidate], progress)
        failed = [record for record in (first, second) if record.status != "ok"]
        if failed:
            for record in failed:
                print(f"{record.runtime.name}: {record.status}: {record.reason}")
            return 3 if all(record.status == "unsupported" for record in failed) else 1
        compare_outputs(second, first, results)

        def on_launch(done: int, launches: Sequence[Launch]) -> None:
            speedup = ratio(launches, "decode", Clock.WALL)
            suffix = f": decode {speedup.estimate:.3f}× [{speedup.low:.3f}, {speedup.high:.3f}]" if speedup else ""
            progress.note(f"launch {done}{suffix}")

        folders = [results / record.record_id for record in (first, second)]
        progress.note("speed, interleaved")
        reasons = compare_speed(
            Runner(reference, folders[0]),
            [Runner(candidate, folders[1])],
            candidate.config.comparison,
            Clock.WALL,
            on_launch,
            tick=progress.tick,
        )
    (result,) = attach([second], results)
    for line in verdict_lines(result, first.runtime.name, reasons[folders[1]]):
        print(line)
    print(f"records: {folders[0]} and {folders[1]}")
    return 1 if reasons[folders[1]] else 0


if __name__ == "__main__":
    sys.exit(main())
