"""`python -m experiments.run`: measure one cell, or with `-m` a sweep, and show the matrix."""

from __future__ import annotations

import os
import sys

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.cells.jobs import call_hydra, composed_jobs, refuse_hydra_launchers
from runtime_matrix.experiments.cli.command import measuring, speaking, version_text
from runtime_matrix.experiments.cli.help import help_text
from runtime_matrix.experiments.config.arguments import read_arguments
from runtime_matrix.experiments.config.compose import plain, show
from runtime_matrix.experiments.config.program import as_typed, recorded_command
from runtime_matrix.experiments.sweeps.sweep import run_sweep

_HYDRA_FLAGS = ("--hydra-help", "--info", "-i", "--shell-completion", "-sc")


def main() -> int:
    """Compose the configuration, check it and measure. Return an exit code of docs/sweep.md."""
    if "--version" in sys.argv[1:]:
        return speaking(lambda: print(version_text()) or 0)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises, and errors are printed in one line
    return measuring(_run, "completed cells are recorded; resume=true continues")


def _run() -> int:
    words = sys.argv[1:]
    if any(word.partition("=")[0] in _HYDRA_FLAGS for word in words):
        call_hydra(lambda _: None)
        return 0
    asks_for_help = any(word in ("-h", "--help") for word in words)
    given = read_arguments([word for word in words if word not in ("-h", "--help")], _HYDRA_FLAGS)
    if asks_for_help:
        print(as_typed(help_text(given.overrides, given.folders)))
        return 0
    refuse_hydra_launchers(given.overrides)
    if given.shown not in (None, "job"):
        sys.argv[1:] = [f"--cfg={given.shown}", *given.overrides]
        call_hydra(lambda _: None)
        return 0
    configs = composed_jobs(given)
    if given.shown == "job":
        show([config for config, _ in configs], given.is_resolved)
        return 0
    cells = [
        plan(plain(config, overrides), recorded_command("run", given.as_typed(overrides)))
        for config, overrides in configs
    ]
    return run_sweep(cells)


if __name__ == "__main__":
    sys.exit(main())
