"""From lm-evaluation-harness's results to figures of the record and comparable items."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from lm_eval.utils import handle_non_serializable, sanitize_list

from runtime_matrix.experiments.config.plain_json import JsonObject

Sample = Mapping[str, Any]  # of `log_samples`
_FIXED = ("name", "alias", "sample_len", "sample_count")  # keys of a task's results that are no metric
_RATIOS = ("byte_perplexity", "word_perplexity", "bits_per_byte")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One line of the items file: one document of one task, with lm-eval's own samples, one per filter."""

    id: str  # TASK:DOC_ID
    task: str
    prompt: str
    score: float  # 0 to 1
    is_right: bool | None  # None for scores between 0 and 1
    answer: int | None = None  # index of the right choice
    predicted: int | None = None
    choices: list[str] | None = None
    logprobs: list[float] | None = None  # per choice, in nats
    text: str | None = None  # the generated text
    samples: list[JsonObject]  # without the arguments that equal `prompt`, which would be there once per choice

    def plain(self) -> JsonObject:
        """Return the fields that are known."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def items(results: Mapping[str, Any]) -> Iterator[Item]:
    """Yield one item per document of each task."""
    for name, samples in results["samples"].items():
        by_document: dict[int, list[Sample]] = {}
        for sample in samples:
            by_document.setdefault(sample["doc_id"], []).append(sample)
        metric = main_metric(samples, results["higher_is_better"].get(name, {}))
        for document, own in by_document.items():
            yield _item(name, document, own, metric, results["configs"][name]["output_type"])


def main_metric(samples: Sequence[Sample], is_better: Mapping[str, bool | None]) -> str | None:
    """Return the first metric whose value for each sample is from 0 to 1 and better when higher; None without one."""
    for metric in samples[0]["metrics"]:
        values = [sample.get(metric) for sample in samples if metric in sample]
        if is_better.get(metric) and all(_is_share(value) for value in values):
            return str(metric)
    return None


def scores_by_task(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the metrics of each task and group; a filter other than `none` is part of a metric's name.

    A standard error has the name of its metric with `_standard_error`.
    """
    tables: dict[str, dict[str, float]] = {}
    for task, values in {**results["results"], **results.get("groups", {})}.items():
        table = {_metric_name(key): value for key, value in values.items() if key not in _FIXED}
        tables[task] = {
            key: float(value)
            for key, value in table.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        }
    return tables


def _metric_name(key: str) -> str:
    name, _, filter_name = key.partition(",")
    end = "_standard_error" if name.endswith("_stderr") else ""
    between = "" if filter_name in ("", "none") else f"_{filter_name}"
    return re.sub(r"[^\w.]+", "_", f"{name.removesuffix('_stderr')}{between}") + end


def _item(task: str, document: int, samples: Sequence[Sample], metric: str | None, kind: str) -> Item:
    sample = samples[0]
    score = _score(sample, metric)
    prompt, responses = str(sample["arguments"][0][0]), [response[0] for response in sample["resps"]]
    choices = _choices(sample, [float(response[0]) for response in responses]) if kind == "multiple_choice" else {}
    return Item(
        id=f"{task}:{document}",
        task=task,
        prompt=prompt,
        score=score,
        is_right=bool(score) if score in (0.0, 1.0) else None,
        text=str(responses[0]) if kind == "generate_until" else None,
        samples=[_plain_sample(own, prompt) for own in samples],
        **choices,
    )


def _score(sample: Sample, metric: str | None) -> float:
    """Return a sample's score from 0 to 1.

    Without a metric per sample it is the probability per byte (or word) of a text, the inverse of its perplexity, or
    else whether the answer equals the target.
    """
    if metric is not None:
        return float(sample[metric])
    for name in _RATIOS:
        if name in sample:
            logprob, length = sample[name]
            return math.exp(logprob / max(1, length))
    return float(str(sample["filtered_resps"][0]) == str(sample["target"]))


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _choices(sample: Sample, logprobs: list[float]) -> JsonObject:
    """Return answer, prediction and log-probabilities; nothing if the target is not one of the choices."""
    answer, arguments = sample["target"], sample["arguments"]
    is_by_context = len({argument[1] for argument in arguments}) == 1 < len(arguments)  # as in Winograd's schemas
    choices = [str(argument[0 if is_by_context else 1]).strip() for argument in arguments]
    if isinstance(answer, str):
        answer = choices.index(answer.strip()) if answer.strip() in choices else None
    if not isinstance(answer, int) or not 0 <= answer < len(logprobs):
        return {}
    predicted = logprobs.index(max(logprobs))
    return {"answer": answer, "predicted": predicted, "choices": choices, "logprobs": logprobs}


def _plain_sample(sample: Sample, prompt: str) -> JsonObject:
    """Return a sample in the layout of lm-eval's samples file; None stands for an argument that is the prompt."""
    arguments = {
        f"gen_args_{index}": {f"arg_{place}": None if part == prompt else part for place, part in enumerate(argument)}
        for index, argument in enumerate(sample["arguments"])
    }
    changed = {
        "arguments": arguments,
        "resps": sanitize_list(sample["resps"]),
        "filtered_resps": sanitize_list(sample["filtered_resps"]),
        "target": str(sample["target"]),
    }
    text = json.dumps({**sample, **changed}, default=handle_non_serializable)
    return cast(JsonObject, json.loads(text))
