"""All benchmarks: those in this folder and those that other packages register under `runtime_matrix.tasks`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from runtime_matrix.experiments.config import plugins
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.records.metric import AT, Metric
from runtime_matrix.experiments.tasks.task import QualityTask, Score, Task

_PLACES = ("runtime_matrix.experiments.tasks", "runtime_matrix.experiments.validation.tasks")


@cache
def every_task() -> dict[str, Task[Any]]:
    """Return all benchmarks and checks by name, in the order of the matrix.

    A registered benchmark that cannot be loaded is left out and reported on stderr.
    """
    tasks = [*_own(), *_others()]
    by_name: dict[str, Task[Any]] = {}
    for task in sorted(tasks, key=lambda task: task.position):
        if task.name in by_name:
            raise UserError(f"two benchmarks are called {task.name}: {type(by_name[task.name])} and {type(task)}")
        by_name[task.name] = task
    return by_name


def benchmarks() -> dict[str, Task[Any]]:
    """Return the benchmarks that `benchmark=[…]` can select, by name."""
    return {name: task for name, task in every_task().items() if not task.is_check}


def task_of(name: str) -> Task[Any]:
    """Return a benchmark; UserError for an unknown name."""
    known = benchmarks()
    if name not in known:
        raise UserError(f"benchmark.{name} is not a known benchmark{did_you_mean(name, known)}")
    return known[name]


def scores() -> dict[str, Score]:
    """Return the score of each benchmark by its name; scores of kind `share` come first."""
    by_name = {task.name: task.score for task in benchmarks().values() if isinstance(task, QualityTask) and task.score}
    return dict(sorted(by_name.items(), key=lambda pair: pair[1].kind != "share"))


@cache
def task_metrics() -> tuple[Metric, ...]:
    """Return the metrics of all benchmarks; UserError if two share a key."""
    by_key: dict[str, Metric] = {}
    for task in every_task().values():
        for metric in task.metrics:
            if metric.key in by_key:
                raise UserError(f"two benchmarks have a metric {metric.key}: the second is {task.name}")
            by_key[metric.key] = replace(metric, benchmark="" if task.is_check else task.title)
    return tuple(by_key.values())


def further_metric(key: str) -> Metric | None:
    """Return the metric of another grid point (`KEY@POINT`) or of `Task.further`, such as pass@10; otherwise None."""
    base, at, point = key.partition(AT)
    metric = next((metric for metric in task_metrics() if metric.key == base), None)
    for task in every_task().values() if metric is None else ():
        further = task.further(base)
        metric = metric or (replace(further, benchmark=task.title) if further else None)
    return metric.at(point) if metric is not None and at else metric


def _own() -> Iterator[Task[Any]]:
    for place in _PLACES:
        try:
            folder = importlib.import_module(place)
        except ModuleNotFoundError:
            continue  # the validation package exists in the repository only
        for module in pkgutil.iter_modules(folder.__path__):
            if module.name != "registry":
                task = getattr(importlib.import_module(f"{place}.{module.name}"), "TASK", None)
                if isinstance(task, Task):
                    yield task


def _others() -> Iterator[Task[Any]]:
    for point in plugins.registered(plugins.TASKS).values():
        try:
            task = plugins.load(point)
        except plugins.Broken as error:
            print(f"the benchmark {error}", file=sys.stderr)
            continue
        if not isinstance(task, Task):
            print(f"the benchmark {point.name} is not an instance of Task: {point.value}", file=sys.stderr)
            continue
        yield task
