"""Compose the jobs of a command line with Hydra, its sweeps and the sweeps of experiments included."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runtime_matrix.experiments.config.adapters import NONE
from runtime_matrix.experiments.config.arguments import Arguments
from runtime_matrix.experiments.config.compose import CONF, compose, explain, search_packages
from runtime_matrix.experiments.config.errors import UserError


def composed_jobs(given: Arguments) -> list[tuple[Any, list[str]]]:
    """Return the configuration and the overrides of each job of the command line; UserError for a mistake."""
    from hydra.core.hydra_config import HydraConfig

    composed: list[tuple[Any, list[str]]] = []

    def collect(config: Any) -> None:
        # Hydra runs jobs one after the other in this process, but a comparison needs all configurations at once.
        composed.append((config, list(HydraConfig.get().overrides.task)))

    sys.argv[1:] = [*(["-m"] if given.is_sweep else []), *given.overrides]
    call_hydra(collect)
    jobs = [(_with_recommended(config, overrides, given), overrides) for config, overrides in composed]
    return _with_one_base(jobs) if len(jobs) > 1 else jobs


def _with_recommended(config: Any, overrides: Sequence[str], given: Arguments) -> Any:
    """Return the job with the settings that its hardware profile recommends, if `hw.apply=true` asks for them."""
    from omegaconf import OmegaConf

    if not isinstance(config.hw, Mapping) or config.hw.get("apply") is not True:
        return config
    folders = [word for word in given.overrides if word.startswith("hydra.searchpath=")]
    return OmegaConf.create(compose([*overrides, *folders]))


def call_hydra(job: Callable[[Any], None]) -> None:
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


def refuse_hydra_launchers(words: Sequence[str]) -> None:
    """Raise UserError for an override that has Hydra launch the jobs of a sweep."""
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        if key == "hydra/launcher" and value != "basic":
            raise UserError(
                f"{word}: Hydra's launchers cannot be used, because a comparison needs all cells of a sweep at once: "
                "launcher=slurm and launcher=ray measure cells elsewhere"
            )


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
