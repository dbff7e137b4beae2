"""Answer files in the formats of other programs, as those programs write them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DATE = "2026-11-24T10-00-00.123456"


def lm_eval(folder: Path, scores: Mapping[str, Sequence[float]], date: str = DATE, **changed: Any) -> Path:
    """Write samples of lm-evaluation-harness 0.4.13 and the results file beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, values in scores.items():
        lines = [
            json.dumps(
                {
                    "doc_id": number,
                    "doc": {"question": f"{task} {number}"},
                    "target": "1",
                    "filter": "none",
                    "metrics": ["acc", "acc_norm"],
                    "doc_hash": f"d{number}",
                    "prompt_hash": "p",
                    "target_hash": "t",
                    "acc": score,
                    "acc_norm": 1.0,
                }
                | changed
            )
            for number, score in enumerate(values)
        ]
        (folder / f"samples_{task}_{date}.jsonl").write_text("\n".join(lines) + "\n")
    summary = {
        "results": {},
        "higher_is_better": {task: {"acc": True, "acc_norm": True} for task in scores},
        "n-samples": {task: {"original": len(values), "effective": len(values)} for task, values in scores.items()},
    }
    (folder / f"results_{date}.json").write_text(json.dumps(summary))
    return folder


def inspect_samples(values: Sequence[Any], epochs: int = 1) -> list[dict[str, Any]]:
    return [
        {
            "id": f"q{number}",
            "epoch": epoch + 1,
            "input": f"question {number}",
            "target": "1",
            "scores": {"match": {"value": value, "answer": "1"}},
        }
        for number, value in enumerate(values)
        for epoch in range(epochs)
    ]


def inspect_json(path: Path, values: Sequence[Any], status: str = "success", epochs: int = 1) -> Path:
    """Write a log of inspect_ai as JSON."""
    log = {"version": 2, "status": status, "eval": {"task": "sums"}, "samples": inspect_samples(values, epochs)}
    path.write_text(json.dumps(log))
    return path


def inspect_eval(path: Path, values: Sequence[Any], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a log of inspect_ai as an archive; `method` 93 is Zstandard, which newer versions use."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for sample in inspect_samples(values):
            archive.writestr(f"samples/{sample['id']}_epoch_1.json", json.dumps(sample))
        header = {"version": 2, "status": "success", "eval": {"task": "sums"}}
        archive.writestr("header.json", json.dumps(header))
    return path


def evalplus(path: Path, statuses: Sequence[tuple[str, str | None]]) -> Path:
    """Write results of EvalPlus: the status of the base tests and of the extra tests, per problem."""
    problems = {
        f"HumanEval/{number}": [
            {"task_id": f"HumanEval/{number}", "solution": "", "base_status": base, "plus_status": plus}
        ]
        for number, (base, plus) in enumerate(statuses)
    }
    path.write_text(json.dumps({"date": "2026-11-24", "hash": "abc", "eval": problems}))
    return path
