"""All benchmarks keep the rules that columns, gates and pages are derived by."""

from __future__ import annotations

from dataclasses import is_dataclass
from importlib.metadata import EntryPoint

import pytest

from runtime_matrix.experiments.analysis.columns import COLUMNS, SCORES
from runtime_matrix.experiments.cells.config import BenchmarksConfig, CellConfig
from runtime_matrix.experiments.config import plugins
from runtime_matrix.experiments.config.compose import compose, options
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.validate import build, identity_of
from runtime_matrix.experiments.gates.limits import ACCURACY
from runtime_matrix.experiments.reports.benchmark_table import with_table
from runtime_matrix.experiments.tasks import registry
from runtime_matrix.experiments.tasks.latency import TASK as LATENCY
from runtime_matrix.experiments.tasks.latency import Latency
from runtime_matrix.experiments.tasks.task import QualityTask, Scenario
from tests.conftest import ROOT

BENCHMARKS = registry.benchmarks()


def test_presets_and_benchmarks_correspond() -> None:
    assert sorted(BENCHMARKS) == options("benchmark")


NEEDED = {"lm_eval": ["benchmark.lm_eval.tasks=[arc_easy]"]}  # options without a default


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_declares_what_is_derived_from_it(name: str) -> None:
    task = BENCHMARKS[name]
    assert is_dataclass(task.Config)
    config: CellConfig = build(CellConfig, compose([f"benchmark=[{name}]", *NEEDED.get(name, ())]))
    assert config.benchmark.chosen() == [name]
    assert config.benchmark.of(task) == config.benchmark.options[name]
    columns = {column.key: column for column in COLUMNS}
    for metric in task.metrics:
        assert not metric.title or columns[metric.key].about
    if isinstance(task, QualityTask) and task.score is not None:
        assert columns[task.score.metric].better
        assert columns[task.score.metric].error
        assert name in ACCURACY
        assert task.score.metric in SCORES


def test_scenarios_and_quality_tasks_are_told_apart_by_type() -> None:
    kinds = {name: type(task).__mro__ for name, task in BENCHMARKS.items()}
    assert {name for name, kind in kinds.items() if Scenario in kind} == {"latency", "serving", "throughput", "memory"}
    assert {name for name, kind in kinds.items() if QualityTask in kind} >= set(ACCURACY)


def test_an_unknown_benchmark_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"benchmark\.latncy is not a known benchmark; did you mean 'latency'"):
        BenchmarksConfig.build_plain({"latncy": {}}, "benchmark")


def test_a_recorded_benchmark_that_is_not_installed_keeps_its_identity() -> None:
    config = {"benchmark": {"theirs": {"data": "x"}, "latency": {"batch": [1]}}}
    assert identity_of(CellConfig, config) == config


def test_a_package_that_cannot_be_loaded_is_reported_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = {
        name: EntryPoint(name, value, plugins.TASKS)
        for name, value in (("gone", "no_such_module:TASK"), ("other", "json:dumps"))
    }
    monkeypatch.setattr(plugins, "registered", lambda group: points)
    assert list(registry.every_task.__wrapped__()) == list(registry.every_task())
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("the benchmark gone of the package no_such_module cannot be loaded: ModuleNotFoundError")
    assert lines[1:] == ["the benchmark other is not an instance of Task: json:dumps"]


def test_the_documentation_has_the_table_of_the_registry() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    assert with_table(text) == text, "run make schema"
    with pytest.raises(ValueError, match="no <!-- benchmarks -->"):
        with_table("nothing")


def test_a_grid_runs_each_point_and_reports_its_largest_batch() -> None:
    config: CellConfig = build(CellConfig, compose(["benchmark=[latency]", "benchmark.latency.batch=[1,8]"]))
    latency = config.benchmark.of(LATENCY)
    assert latency is not None
    assert list(LATENCY.grid(latency)) == ["b1-p64-n32", "b8-p64-n32"]
    assert LATENCY.rows(latency) == 8


class SameName(Latency):
    pass


class SameMetric(Latency):
    name = "another"


def test_a_benchmark_of_a_package_with_a_taken_name_or_metric_is_reported_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "_others", lambda: iter((SameName(), SameMetric())))
    assert list(registry.every_task.__wrapped__()) == list(registry.every_task())
    first = LATENCY.metrics[0].key
    assert capsys.readouterr().err.splitlines() == [
        f"the benchmark latency of {__name__} is left out: another benchmark has that name",
        f"the benchmark another of {__name__} is left out: the metric {first} is declared twice",
    ]


def test_a_name_taken_twice_by_our_own_files_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_own", lambda: iter((LATENCY, LATENCY)))
    with pytest.raises(UserError, match="another benchmark has that name"):
        registry.every_task.__wrapped__()
