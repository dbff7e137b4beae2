"""Loads tasks of lm-evaluation-harness, and turns its errors for users' mistakes into one line each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval.tasks import TaskManager

from runtime_matrix.experiments.config.errors import UserError, did_you_mean

_OF_DATA = ("datasets", "huggingface_hub", "fsspec", "httpx", "httpx2", "httpcore2", "requests", "urllib3", "pyarrow")
_UNKNOWN = re.compile(r"Tasks not found: (.*)|Spec '(.*)' is not a registered")
_ADD = "--include_path (benchmark.lm_eval.include_path) names a folder of your own tasks"


def task_manager(tasks: Sequence[str], include_path: str | None) -> Any:
    """Return a manager that knows the tasks. UserError for an unknown one, or a folder that cannot be read.

    lm-eval's own tasks are indexed only where they are needed: reading their thousands of files takes seconds.
    """
    if include_path is not None and not Path(include_path).is_dir():
        raise UserError(f"include_path={include_path} is not a folder; give one with the YAML files of your tasks")
    try:
        if include_path is not None:
            manager = TaskManager(include_path=include_path, include_defaults=False)
            if not _missing(manager, tasks):
                return manager
        manager = TaskManager(include_path=include_path)
    except Exception as error:  # YAML's errors have no common class
        raise UserError(f"include_path={include_path}: {_first_line(error)}") from error
    missing = _missing(manager, tasks)
    if missing:
        raise unknown_task(missing[0], manager.all_tasks)
    return manager


def load_tasks(manager: Any, tasks: Sequence[str]) -> dict[str, Any]:
    """Return what `lm_eval.evaluator.evaluate` takes. UserError for data or packages that are missing."""
    try:
        loaded: dict[str, Any] = manager.load(list(tasks))
    except Exception as error:
        mistake = explain(error, ", ".join(tasks))
        if mistake is None:
            raise
        raise mistake from error
    return loaded


def document_counts(manager: Any, tasks: Sequence[str]) -> dict[str, int]:
    """Return the number of documents of each task, groups resolved. UserError as for `load_tasks`."""
    return {name: len(task.eval_docs) for name, task in load_tasks(manager, tasks)["tasks"].items()}


def unknown_task(name: str, known: Sequence[str]) -> UserError:
    """Return the error for an unknown task, with a similar name."""
    return UserError(f"lm-eval has no task {name}{did_you_mean(name, known)}; {_ADD}")


def explain(error: BaseException, tasks: str) -> UserError | None:
    """Return an error of lm-eval as one line if it is a user's mistake; None for any other."""
    if isinstance(error, UserError):
        return error
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    for link in chain:
        if (match := _UNKNOWN.search(str(link))) is not None:
            return UserError(f"lm-eval has no task {match[1] or match[2]}; {_ADD}")
        if isinstance(link, ModuleNotFoundError):
            return UserError(f"{tasks}: needs the package {link.name}: pip install {link.name}")
        if isinstance(link, ConnectionError | FileNotFoundError) or type(link).__module__.startswith(_OF_DATA):
            return UserError(
                f"{tasks}: the data cannot be loaded: {_first_line(link)}; check the names in the task's YAML; data on "
                "the Hugging Face hub need a network, or an earlier download"
            )
        if "marked as unsafe" in str(link):
            return UserError(f"{tasks}: runs generated programs without a sandbox; use 'benchmark=[code]' instead")
    return None


def _missing(manager: Any, tasks: Sequence[str]) -> list[str]:
    return [task for task in tasks if not task.endswith(".yaml") and not manager.match_tasks([task])]


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200]}" if text else type(error).__name__
