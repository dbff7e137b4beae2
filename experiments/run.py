"""`python -m experiments.run`: measure one cell, or with `-m` a sweep, and show the matrix."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.cli.command import measuring, speaking, version_text
from runtime_matrix.experiments.cli.help import help_text
from runtime_matrix.experiments.config.adapters import NONE
from runtime_matrix.experiments.config.arguments import Arguments, read_arguments
from runtime_matrix.experiments.config.compose import CONF, explain, plain, search_packages, show
from runtime_matrix.experiments.config.errors import UserError
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
        _hydra(lambda _: None)
        return 0
    asks_for_help = any(word in ("-h", "--help") for word in words)
    given = read_arguments([word for word in words if word not in ("-h", "--help")], _HYDRA_FLAGS)
    if asks_for_help:
        print(as_typed(help_text(given.overrides, given.folders)))
        return 0
    for word in given.overrides:
        key, _, value = word.lstrip("+").partition("=")
        if key == "hydra/launcher" and value != "basic":
            raise UserError(
                f"{word}: Hydra's launchers cannot be used, because a comparison needs all cells of a sweep at once: "
                "launcher=slurm and launcher=ray measure cells elsewhere"
            )
    if given.shown not in (None, "job"):
        sys.argv[1:] = [f"--cfg={given.shown}", *given.overrides]
        _hydra(lambda _: None)
        return 0
    configs = _composed(given)
    if len(configs) > 1:
        configs = _with_one_base(configs)
    if given.shown == "job":
        show([config for config, _ in configs], given.is_resolved)
        return 0
    cells = [
        plan(plain(config, overrides), recorded_command("run", given.as_typed(overrides)))
        for config, overrides in configs
    ]
    return run_sweep(cells)


def _with_one_base(configs: Sequence[tuple[Any, list[str]]]) -> list[tuple[Any, list[str]]]:
    """Return the jobs of a sweep; of those without an adapter, which `merge_adapter` does not concern, each once."""
    jobs: list[tuple[Any, list[str]]] = []
    seen: set[tuple[str, ...]] = set()
    for config, overrides in configs:
        if config.adapter in (NONE, None) and config.merge_adapter is not None:
            config.merge_adapter = None
            overrides = [word for word in overrides if not word.startswith("merge_adapter=")]
        key = tuple(sorted(word for word in overrides if word != "merge_adapter=null"))
        if config.adapter in (NONE, None) and key in seen:
            continue
        seen.add(key)
        jobs.append((config, overrides))
    return jobs


def _composed(given: Arguments) -> list[tuple[Any, list[str]]]:
    """Return the configuration and the overrides of each job of the command line."""
    from hydra.core.hydra_config import HydraConfig

    composed: list[tuple[Any, list[str]]] = []

    def collect(config: Any) -> None:
        # Hydra runs jobs one after the other in this process, but a comparison needs all configurations at once.
        composed.append((config, list(HydraConfig.get().overrides.task)))

    sys.argv[1:] = [*(["-m"] if given.is_sweep else []), *given.overrides]
    _hydra(collect)
    return composed


def _hydra(job: Callable[[Any], None]) -> None:
    """Compose `sys.argv` with Hydra and call `job` with the configuration of each job; UserError for a mistake."""
    import hydra

    search_packages()
    try:
        hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(job)()
    except (UserError, KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"results_dir cannot be written: {error.strerror}: {error.filename}") from error
        raise explain(error) from error


if __name__ == "__main__":
    sys.exit(main())
