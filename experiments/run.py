"""`python -m experiments.run`: measure one cell, or with `-m` a sweep, and show the matrix."""

from __future__ import annotations

import os
import sys
from typing import Any

from runtime_matrix.experiments.command import measuring
from runtime_matrix.experiments.errors import UserError
from runtime_matrix.experiments.program import command_line


def main() -> int:
    """Compose, check, measure. Returns the exit code that the README explains."""
    # Hydra's parser refuses a flag between overrides.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and what went wrong is said here, in one line
    return measuring(_run, "what was measured is recorded; resume=true goes on from there")


def _run() -> int:
    for word in sys.argv[1:]:
        key, _, value = word.lstrip("+").partition("=")
        if key == "hydra/launcher" and value != "basic":
            raise UserError(
                f"{word}: cells take turns on one machine, or their times would mean nothing; a launcher of Hydra's "
                "would measure nothing here. Leave it out, or start a sweep on each machine"
            )
    cells = _cells()
    if not cells:
        return 0  # --help, --cfg and the like
    from runtime_matrix.experiments.sweep import run_sweep

    return run_sweep(cells)


def _cells() -> list[Any]:
    """Return the cells that the command line asks for, all checked before the first is measured."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from runtime_matrix.experiments.compose import CONF, explain, plain

    composed: list[tuple[Any, list[str]]] = []

    def collect(config: Any) -> None:
        # Hydra runs the jobs of a sweep one after the other in this process; a comparison needs them all at once.
        composed.append((config, list(HydraConfig.get().overrides.task)))

    try:
        hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(collect)()
    except (UserError, KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"results_dir cannot be written: {error.strerror}: {error.filename}") from error
        raise explain(error) from error
    if not composed:
        return []
    from runtime_matrix.experiments.cells.plan import plan

    return [plan(plain(config, overrides), command_line("run", overrides)) for config, overrides in composed]


if __name__ == "__main__":
    sys.exit(main())
