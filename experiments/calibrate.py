"""Measure the noise of this machine: an A/A run of one runtime against itself, interleaved, in fresh processes.

  python -m experiments.calibrate                                 eager, the bundled model, 12 launches
  python -m experiments.calibrate runtime=onnxruntime launches=30 model=local model.path=DIR

It prints the noise of a launch, whether launches are correlated or drift, the smallest difference that a number of
launches detects, and the number of launches that a difference needs. They are stored in RESULTS_DIR/calibration.json,
where `python -m experiments.gate` reads them. Own option: launches. It also takes all overrides of
`python -m experiments.run`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from runtime_matrix.experiments.cells.overrides import cells, own_words
from runtime_matrix.experiments.cli.command import run_command
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import recorded_command
from runtime_matrix.experiments.execution.progress import Progress
from runtime_matrix.experiments.gates.axes.cpu_speedup import CPU_PHASES
from runtime_matrix.experiments.gates.calibration import calibrate, calibration_lines, write_calibration
from runtime_matrix.experiments.records.ratios import Clock, halves, log_ratios
from runtime_matrix.experiments.records.store import read_speed
from runtime_matrix.experiments.sweeps.measure import measure_cells
from runtime_matrix.experiments.timing.interleave import compare_speed
from runtime_matrix.experiments.timing.runner import Runner

_LEVEL = 0.996  # of the last of four interim analyses, which spends four tenths of an error rate of 1 %


def main(argv: Sequence[str] | None = None) -> int:
    """Calibrate. Return 3 if the runtime is unsupported here, 1 if a measurement failed, 2 for a user's mistake."""
    return run_command(argv, __doc__, _calibrate)


def _calibrate(words: Sequence[str]) -> int:
    own, given = own_words(words, {"launches": "12"})
    count = str(own["launches"])
    if not count.isdigit() or int(count) < 3:
        raise UserError(f"launches={count} must be a number of at least 3")
    runtime = next((word.partition("=")[2] for word in given.overrides if word.startswith("runtime=")), "eager")
    command = recorded_command("calibrate", words)
    reference, candidates = cells(given, runtime, command, ["benchmark=[memory]"])
    if len(candidates) > 1:
        raise UserError("calibrate takes one runtime at a time: runtime=NAME")
    results = Path(reference.config.results_dir)
    with Progress(2, reference.config.progress) as progress:
        first, second = measure_cells([reference, candidates[0]], progress)
        if first.status != "ok":
            print(f"{first.runtime.name}: {first.status}: {first.reason}")
            return 3 if first.status == "unsupported" else 1
        folder = results / second.record_id
        progress.note("speed, interleaved")
        reasons = compare_speed(
            Runner(reference, results / first.record_id),
            [Runner(candidates[0], folder)],
            replace(reference.config.comparison, launches=int(count)),
            Clock.CPU,
            lambda done, launches: progress.note(f"launch {done} of {count}"),
            tick=progress.tick,
        )
    if reasons[folder]:
        print(f"not compared: {reasons[folder]}")
        return 1
    speed = read_speed(folder)
    launches = speed.launches if speed is not None else []
    clocks = {
        clock.value: calibrate(
            {phase: values for phase in CPU_PHASES if len(values := log_ratios(launches, phase, clock)) > 1},
            clock.phrase,
            _LEVEL,
            {phase: halves(launches, phase, clock) for phase in CPU_PHASES},
        )
        for clock in (Clock.WALL, Clock.CPU)
        if log_ratios(launches, "decode", clock)
    }
    path = write_calibration(clocks, results)
    for calibration in clocks.values():
        for line in calibration_lines(calibration):
            print(line)
    print(f"written: {path}, where the gate reads it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
