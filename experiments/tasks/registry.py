"""All benchmarks: those in this folder and those that other packages register under `runtime_matrix.tasks`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator, Sequence
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

    A registered benchmark that cannot be loaded, or whose name or metric another one has, is left out and reported on
    stderr.
    """
    tasks: list[Task[Any]] = []
    for task in _own():
        conflict = _conflict(task, tasks)
        if conflict is not None:
            raise UserError(f"the benchmark {task.name} of {type(task).__module__}: {conflict}")
        tasks.append(task)
    for task in _others():
        conflict = _conflict(task, tasks)
        if conflict is None:
            tasks.append(task)
        else:
            print(f"the benchmark {task.name} of {type(task).__module__} is left out: {conflict}", file=sys.stderr)
    return {task.name: task for task in sorted(tasks, key=lambda task: task.position)}


def _conflict(task: Task[Any], tasks: Sequence[Task[Any]]) -> str | None:
    """Return why a task cannot be added to the tasks; None if it can."""
    if any(task.name == other.name for other in tasks):
        return "another benchmark has that name"
    keys = {metric.key for other in tasks for metric in other.metrics}
    for metric in task.metrics:
        if metric.key in keys:
            return f"the metric {metric.key} is declared twice"
        keys.add(metric.key)
    return None


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
    """Return the score of each benchmark by its name; those of answers come first."""
    by_name = {task.name: task.score for task in benchmarks().values() if isinstance(task, QualityTask) and task.score}
    return dict(sorted(by_name.items(), key=lambda pair: not pair[1].kind.has_answers))


@cache
def task_metrics() -> tuple[Metric, ...]:
    """Return the metrics of all benchmarks; each key is there once."""
    return tuple(_titled(metric, task) for task in every_task().values() for metric in task.metrics)


def further_metric(key: str) -> Metric | None:
    """Return the metric of another grid point (`KEY@POINT`) or of `Task.further`, such as pass@10; otherwise None."""
    base, at, point = key.partition(AT)
    metric = next((metric for metric in task_metrics() if metric.key == base), None)
    for task in every_task().values() if metric is None else ():
        further = task.further(base)
        metric = metric or (_titled(further, task) if further else None)
    return metric.at(point) if metric is not None and at else metric


def _titled(metric: Metric, task: Task[Any]) -> Metric:
    return replace(metric, benchmark="" if task.is_check else task.title)


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
