"""Answers in the files of lm-evaluation-harness: `--output_path … --log_samples`, one folder per cell."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.records.store import write_atomic
from runtime_matrix.experiments.reports.answers import Answer, AnsweredTask, answered_tasks
from runtime_matrix.experiments.statistics.descriptive import standard_error


def write_lm_eval_files(results: Sequence[Result], folder: Path) -> list[Path]:
    """Write `CELL/results_DATE.json` and `CELL/samples_TASK_DATE.jsonl`; return the folders of the cells."""
    by_record: dict[str, list[AnsweredTask]] = {}
    for task in answered_tasks(results):
        by_record.setdefault(task.record.record_id, []).append(task)
    places = []
    for tasks in by_record.values():
        record = tasks[0].record
        place, date = folder / record.record_id, _date(record)
        place.mkdir(parents=True, exist_ok=True)
        for task in tasks:
            lines = [json.dumps(sample) + "\n" for number, answer in enumerate(task.answers)
                     for sample in _samples(task, answer, number)]  # fmt: skip
            write_atomic(place / f"samples_{re.sub(r'[^-.0-9a-zA-Z]', '_', task.name)}_{date}.jsonl", "".join(lines))
        write_atomic(place / f"results_{date}.json", json.dumps(_results(record, tasks), indent=2))
        places.append(place)
    return places


def _date(record: Record) -> str:
    """Return the time in lm-eval's form, which its tools find in file names."""
    started = datetime.datetime.fromisoformat(record.started_at).replace(tzinfo=None)
    return started.isoformat(timespec="microseconds").replace(":", "-")


def _samples(task: AnsweredTask, answer: Answer, number: int) -> list[JsonObject]:
    if answer.samples:
        return [_with_prompt(sample, answer.input) for sample in answer.samples]
    document = {"id": answer.id, "prompt": answer.input, "choices": answer.choices, "target": answer.target}
    if answer.logprobs is not None:
        choices = answer.choices or [str(index) for index in range(len(answer.logprobs))]
        arguments = [(answer.input, f" {choice}") for choice in choices]
        responses = [[str(logprob), str(index == answer.predicted)] for index, logprob in enumerate(answer.logprobs)]
    else:
        arguments, responses = [(answer.input, "")], [[answer.output]]
    return [
        {
            "doc_id": number,
            "doc": document,
            "target": answer.target,
            "arguments": {f"gen_args_{at}": {"arg_0": a, "arg_1": b} for at, (a, b) in enumerate(arguments)},
            "resps": [[response] for response in responses],
            "filtered_resps": responses,
            "filter": "none",
            "metrics": [task.metric],
            "doc_hash": _digest(json.dumps(document)),
            "prompt_hash": _digest(answer.input),
            "target_hash": _digest(answer.target),
            task.metric: answer.score,
        }
    ]


def _with_prompt(sample: JsonObject, prompt: str) -> JsonObject:
    """Return a recorded sample of lm-eval with the arguments that equal the prompt."""
    arguments = {
        name: {place: prompt if value is None else value for place, value in parts.items()}
        for name, parts in sample["arguments"].items()
    }
    return {**sample, "arguments": arguments}


def _results(record: Record, tasks: Sequence[AnsweredTask]) -> JsonObject:
    metrics, sizes = {}, {}
    for task in tasks:
        values = [answer.score for answer in task.answers]
        error = standard_error(values)
        metrics[task.name] = {
            "alias": task.name,
            f"{task.metric},none": mean(values),
            f"{task.metric}_stderr,none": "N/A" if error is None else error,
        }
        sizes[task.name] = {"original": len(values), "effective": len(values)}
    model_args = {"runtime": record.runtime.name, "model": record.model.name, "dtype": record.runtime.dtype}
    return {
        "results": metrics,
        "group_subtasks": {task.name: [] for task in tasks},
        "configs": {task.name: {"task": task.name, "dataset_path": ""} for task in tasks},
        "versions": {task.name: record.benchmark_versions.get(task.name, 1) for task in tasks},
        "n-shot": {task.name: 0 for task in tasks},
        "higher_is_better": {task.name: {task.metric: True} for task in tasks},
        "n-samples": sizes,
        "config": {"model": "runtime_matrix", "model_args": model_args, "model_sha": record.model.digest},
        "date": datetime.datetime.fromisoformat(record.started_at).timestamp(),
        "model_source": "runtime_matrix",
        "model_name": record.runtime.name,
        "model_name_sanitized": record.record_id,
        "command": record.command,
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
