"""Answers as logs that inspect_ai reads: one JSON file per cell and task, for `inspect view`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.store import write_atomic
from runtime_matrix.experiments.reports.answers import Answer, AnsweredTask, answered_tasks
from runtime_matrix.experiments.statistics.descriptive import standard_error

_VERSION = 2  # of inspect_ai's log format


def write_inspect_logs(results: Sequence[Result], folder: Path) -> list[Path]:
    """Write one log per cell and task; return the files."""
    paths = []
    for task in answered_tasks(results):
        name = re.sub(r"[^-.0-9a-zA-Z]", "-", f"{task.record.started_at}_{task.name}_{task.record.record_id}")
        paths.append(folder / f"{name}.json")
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(paths[-1], json.dumps(_log(task), indent=1))
    return paths


def _log(task: AnsweredTask) -> JsonObject:
    record, values = task.record, [answer.score for answer in task.answers]
    error = standard_error(values)
    metrics = {"mean": mean(values)} | ({} if error is None else {"stderr": error})
    score = {
        "name": task.metric,
        "scorer": task.metric,
        "metrics": {name: {"name": name, "value": value} for name, value in metrics.items()},
    }
    digest = hashlib.sha256(f"{record.record_id}/{task.name}".encode()).hexdigest()[:22]
    return {
        "version": _VERSION,
        "status": "success",
        "eval": {
            "eval_id": digest,
            "run_id": record.run_id,
            "created": record.started_at,
            "task": task.name,
            "task_id": digest,
            "dataset": {"name": task.name, "samples": len(values)},
            "model": f"runtime_matrix/{record.runtime.name}",
            "config": {},
            "metadata": {"command": record.command, "model": record.model.name, "model_digest": record.model.digest},
        },
        "results": {"total_samples": len(values), "completed_samples": len(values), "scores": [score]},
        "stats": {"started_at": record.started_at, "completed_at": record.finished_at or record.started_at},
        "samples": [_sample(task, answer) for answer in task.answers],
    }


def _sample(task: AnsweredTask, answer: Answer) -> JsonObject:
    model = f"runtime_matrix/{task.record.runtime.name}"
    message = {"role": "assistant", "content": answer.output, "source": "generate"}
    sample = {
        "id": answer.id,
        "epoch": (answer.sample or 0) + 1,
        "input": answer.input,
        "target": answer.target,
        "messages": [{"role": "user", "content": answer.input}, message],
        "output": {"model": model, "choices": [{"message": message, "stop_reason": "stop"}]},
        "scores": {task.metric: {"value": answer.score, "answer": answer.output}},
        "metadata": {} if answer.logprobs is None else {"logprobs": answer.logprobs},
    }
    return sample if answer.choices is None else {**sample, "choices": answer.choices}
