"""Samples of lm-evaluation-harness: `samples_TASK_DATE.jsonl`, written with --log_samples and --output_path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from runtime_matrix.experiments.answers.task_answers import (
    AnswerFormat,
    Collected,
    TaskAnswers,
    chosen,
    decoded,
    is_number,
    json_lines,
    read_text,
)
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject

_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(\.\d+)?)\.jsonl")


class _Summary(Struct, frozen=True, kw_only=True, rename={"n_samples": "n-samples"}):
    """The parts of `results_DATE.json` that are needed; older versions lack some."""

    higher_is_better: dict[str, dict[str, bool | None]] = {}
    n_samples: dict[str, dict[str, int]] = {}


def _files(path: Path) -> Sequence[Path]:
    """Return the newest file of each task. UserError for a folder with the samples of several models."""
    if path.is_file():
        return [path] if _NAME.fullmatch(path.name) else []
    newest: dict[str, tuple[str, Path]] = {}
    folders = set()
    for file in sorted(path.rglob("samples_*.jsonl")):
        match = _NAME.fullmatch(file.name)
        if match is None:
            continue
        folders.add(file.parent)
        newest[match["task"]] = max(newest.get(match["task"], ("", file)), (match["date"], file))
    if len(folders) > 1:
        names = ", ".join(sorted(str(folder.relative_to(path)) for folder in folders)[:4])
        raise UserError(f"{path} holds the samples of several models ({names}): name the folder of one")
    return [file for _, file in newest.values()]


def _read(path: Path, metric: str | None) -> list[TaskAnswers]:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    task, samples = match["task"], list(json_lines(path, JsonObject))
    if not samples:
        raise UserError(f"{path} is empty")
    name, filtered = _metric(path, metric, samples)
    summary = _summary(path, match["date"])
    better = summary.higher_is_better.get(task, {}).get(name)
    collected = Collected(path, task, name, better is not False)
    for number, sample in enumerate(samples, start=1):
        if "doc_id" not in sample:
            raise UserError(f"{path}, line {number}: not a sample of lm-eval: it has no doc_id")
        if sample.get("filter", "none") == filtered:
            hashes = [sample.get(key) for key in ("doc_hash", "target_hash")]
            question = "/".join(map(str, hashes)) if all(hashes) else None
            collected.add(sample["doc_id"], sample.get(name), question)
    answers = collected.answers()
    expected = summary.n_samples.get(task, {}).get("effective")
    if expected is not None and expected != len(answers.ids):
        raise UserError(f"{path} has {len(answers.ids)} of {expected} items: it is truncated")
    return [answers]


def _metric(path: Path, wanted: str | None, samples: Sequence[JsonObject]) -> tuple[str, str]:
    """Return the metric and its filter; `wanted` may be METRIC or METRIC,FILTER."""
    known = dict.fromkeys(
        (name, str(sample.get("filter", "none")))
        for sample in samples
        for name in sample.get("metrics", ())
        if is_number(sample.get(str(name)))
    )
    if wanted is not None and "," not in wanted:
        known = {key: None for key in known if key[0] == wanted} or known
        wanted = next((f"{name},{filtered}" for name, filtered in known if name == wanted), wanted)
    name, _, filtered = chosen(path, wanted, [",".join(key) for key in known]).rpartition(",")
    return name, filtered


def _summary(path: Path, date: str) -> _Summary:
    file = path.with_name(f"results_{date}.json")
    return decoded(file, read_text(file), _Summary) if file.is_file() else _Summary()


FORMAT = AnswerFormat("lm-eval", "samples of lm-evaluation-harness, written with --log_samples", _files, _read)
