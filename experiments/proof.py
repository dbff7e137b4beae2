"""Measure how often the gates are wrong, with injected slowdowns of known size.

  python -m experiments.proof                         all stages: an hour or more on two cores
  python -m experiments.proof launches=20 gates=3     shorter
  python -m experiments.proof only=launches|gates|accuracy

1. launches: fresh processes of each runtime, unchanged and slowed by about 2 and 5 %, on an idle and on a loaded
   machine; 20,000 gates are simulated from their times. 2. gates: real gates from start to verdict, k of n.
3. accuracy: weights rounded to 3 bits against a margin of three points, and a runtime against itself.

Results are written to RESULTS_DIR/proof as they are measured, so a second run continues where the first ended. The
table is RESULTS_DIR/proof/proof.md. Own options: launches (60), gates (6), only, runtimes (eager,fake). It also takes
all overrides of `python -m experiments.run`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from runtime_matrix.experiments.cells.overrides import own_words
from runtime_matrix.experiments.cli.command import run_command
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import recorded_command
from runtime_matrix.experiments.execution.progress import Progress
from runtime_matrix.experiments.validation.proof_table import write_table
from runtime_matrix.experiments.validation.proving import STAGES, Proof

_OWN_OPTIONS = {"launches": "60", "gates": "6", "only": None, "runtimes": "eager,fake"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stages and write the table. Return 1 if an error rate is missed, 2 for a user's mistake."""
    return run_command(argv, __doc__, _prove, "completed measurements are recorded; the same command continues")


def _prove(words: Sequence[str]) -> int:
    own, given = own_words(words, _OWN_OPTIONS)
    counts = {name: str(own[name]) for name in ("launches", "gates")}
    for name, value in counts.items():
        if not value.isdigit() or int(value) < 2:
            raise UserError(f"{name}={value} must be a number of at least 2")
    stages = STAGES if own["only"] is None else tuple(str(own["only"]).split(","))
    if set(stages) - set(STAGES):
        raise UserError(f"only={own['only']} is not a stage; known: {', '.join(STAGES)}")
    command = recorded_command("proof", words)
    runtimes = str(own["runtimes"]).split(",")
    proof = Proof(runtimes, given.overrides, command, int(counts["launches"]), int(counts["gates"]))
    with Progress(len(stages)) as progress:
        progress.note(f"results are written to {proof.folder}")
        for stage in stages:
            getattr(proof, stage)(progress)
    path, missed = write_table(proof.folder)
    print(path.read_text(encoding="utf-8"))
    print(f"written: {path}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
