"""Evaluates lm-evaluation-harness's tasks with an already loaded runtime."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lm_eval import simple_evaluate

from runtime_matrix.experiments.harness.language_model import HarnessLM
from runtime_matrix.experiments.harness.loading import explain, task_manager

_RESAMPLES = 1000  # for standard errors without a formula; lm-eval's 100,000 take minutes
_SERIAL = "DISABLE_MULTIPROC"  # of lm-eval: no pool of forks in a process whose engines have threads


def evaluate(
    model: HarnessLM,
    tasks: Sequence[str],
    include_path: str | None = None,
    num_fewshot: int | None = None,
    limit: int | None = None,
    apply_chat_template: bool = False,
    indexes: Mapping[str, list[int]] | None = None,
) -> Mapping[str, Any]:
    """Return lm-eval's results with all samples. UserError for mistakes in the tasks or their data.

    `indexes`: the documents by task; None for the first `limit`, or all.
    """
    manager = task_manager(tasks, include_path)
    try:
        with _serial():
            results: Mapping[str, Any] = simple_evaluate(
                model=model,
                tasks=list(tasks),
                num_fewshot=num_fewshot,
                limit=limit,
                samples=None if indexes is None else dict(indexes),
                task_manager=manager,
                apply_chat_template=apply_chat_template,
                fewshot_as_multiturn=apply_chat_template,  # as lm-eval's command line does
                bootstrap_iters=_RESAMPLES,
            )
    except Exception as error:
        mistake = explain(error, ", ".join(tasks))
        if mistake is None:
            raise
        raise mistake from error
    return results


@contextmanager
def _serial() -> Iterator[None]:
    before = os.environ.get(_SERIAL)
    os.environ[_SERIAL] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SERIAL]
        else:
            os.environ[_SERIAL] = before
