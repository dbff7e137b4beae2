"""Every saved sweep, composed and planned as a whole: it has what its comparisons need."""

from __future__ import annotations

from functools import cache

import pytest
import yaml

from runtime_matrix.experiments.cells.cell import Cell, baselines, plan
from runtime_matrix.experiments.cells.overrides import expand
from runtime_matrix.experiments.config.arguments import read_arguments
from runtime_matrix.experiments.config.compose import CONF, compose

SWEEPS = sorted(path.stem for path in CONF.glob("experiment/*.yaml"))


@cache
def planned(name: str) -> list[Cell]:
    """Return the cells of a saved sweep, as Hydra's sweeper would make them; a base has no adapter to merge."""
    text = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text())
    params = text.get("hydra", {}).get("sweeper", {}).get("params", {})
    words = [f"experiment={name}", *(f"{key}={value}" for key, value in params.items())]
    jobs = expand(read_arguments(words).overrides)
    return [
        plan(compose(job), "test")
        for job in jobs
        if not {"adapter=none", "merge_adapter=true"} <= set(map(str.lower, job))
    ]


@pytest.mark.parametrize("name", SWEEPS)
def test_one_baseline_for_each_model_and_profile(name: str) -> None:
    cells = planned(name)
    if not cells[0].config.comparison.enabled:
        return
    groups = {(cell.facts.digest, cell.config.hw.name) for cell in cells}
    found = [(cells[index].facts.digest, cells[index].config.hw.name) for index in baselines(cells)]
    assert sorted(found) == sorted(groups)


@pytest.mark.parametrize("name", SWEEPS)
def test_no_runtime_is_asked_for_more_rows_than_it_is_built_for(name: str) -> None:
    for cell in planned(name):
        most = cell.config.runtime.engine.get("max_batch")
        asked = [task.rows(config) for task, config in cell.config.benchmark.items()]
        asked.append(cell.config.comparison.batch)
        assert most is None or max(asked) <= most, cell.label


def test_the_reference_in_the_dtype_of_a_sweep_is_its_baseline() -> None:
    words = ["model=random", "benchmark=[memory]"]
    cells = [
        plan(compose([f"runtime={name}", "runtime.dtype=bfloat16", *words]), "test") for name in ("compile", "eager")
    ]
    assert baselines(cells) == {1}
    assert baselines([*cells, plan(compose(words), "test")]) == {2}
