"""Stored scores of responses: the layout of ReDeEP's logs, as one JSON array or as JSON lines. More keys are allowed.

A response has `scores`, a list of chunks. A chunk has the scores of heads (`prompt_attention_score`, "(layer, head)"),
those of layers (`parameter_knowledge_scores`, "layer_3"), and its label, 1 for unsupported. Beside the layout,
`baselines` may hold further scores of the response. What cannot be used is left out and counted in the notes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runtime_matrix.experiments.config.data_files import json_lines
from runtime_matrix.experiments.config.errors import did_you_mean
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.detector.errors import DetectionError
from runtime_matrix.experiments.detector.scores import Floats, Scores
from runtime_matrix.experiments.detector.stored_spans import outside_spans

_WANTED = "stored scores: items.jsonl of the benchmark, or a log of ReDeEP (docs/detection.md)"
_HEADS, _LAYERS, _LABEL = "prompt_attention_score", "parameter_knowledge_scores", "hallucination_label"
_LENGTH = "length"


def head_name(layer: int, head: int) -> str:
    """Return the name of a head in the layout."""
    return f"({layer}, {head})"


def layer_name(layer: int) -> str:
    """Return the name of a layer in the layout."""
    return f"layer_{layer}"


@dataclass(frozen=True)
class _Chunk:
    heads: Mapping[str, float]
    layers: Mapping[str, float]
    label: bool | None


@dataclass(frozen=True)
class _Response:
    name: str
    source: str | None
    chunks: Sequence[_Chunk]
    baselines: Mapping[str, float]
    spans_outside: int


def read_scores(path: Path, split: str | None = None) -> Scores:
    """Return the scores in a file, of one `split` or of all responses.

    UserError for a file of another layout, and DetectionError if no response can be used.
    """
    found = list(_responses(path, split))
    heads, layers = (_names_of_most(chunks) for chunks in _key_sets(found))
    reasons: Counter[str] = Counter()
    kept = []
    for response in found:
        reason = _unusable(response, heads, layers)
        if reason is None:
            kept.append(response)
        else:
            reasons[reason] += 1
    left_out = [f"{_responses_of(count)} left out: {reason}" for reason, count in reasons.items()]
    if not kept:
        raise DetectionError(f"{path}: no response can be used; {'; '.join(left_out)}; give {_WANTED}")
    chunks = [(index, chunk) for index, response in enumerate(kept) for chunk in response.chunks]
    baselines, unknown = _baselines(kept)
    return Scores(
        external_context_NH=np.array([[chunk.heads[name] for name in heads] for _, chunk in chunks]),
        parametric_knowledge_NL=np.array([[chunk.layers[name] for name in layers] for _, chunk in chunks]),
        is_unsupported_N=np.array([bool(chunk.label) for _, chunk in chunks]),
        response_N=np.array([index for index, _ in chunks]),
        responses=tuple(response.name for response in kept),
        sources=tuple(response.name if response.source is None else response.source for response in kept),
        heads=heads,
        layers=layers,
        baselines=baselines,
        notes=(*left_out, *_notes(found, kept, heads, layers), *unknown),
    )


def stored_response(name: str, source: str, scores: Scores, more: JsonObject | None = None) -> JsonObject:
    """Return the object of one response, which has all chunks of `scores`; `more`: further keys, such as its text."""
    chunks = [
        {
            _HEADS: dict(zip(scores.heads, external_context_H, strict=True)),
            _LAYERS: dict(zip(scores.layers, parametric_knowledge_L, strict=True)),
            _LABEL: int(is_unsupported),
        }
        for external_context_H, parametric_knowledge_L, is_unsupported in zip(
            scores.external_context_NH.tolist(),
            scores.parametric_knowledge_NL.tolist(),
            scores.is_unsupported_N.tolist(),
            strict=True,
        )
    ]
    baselines = {key: float(values_R[0]) for key, values_R in scores.baselines.items()}
    return {"id": name, "source_id": source, **(more or {}), "baselines": baselines, "scores": chunks}


def stored_responses(scores: Scores) -> Iterator[JsonObject]:
    """Yield the object of each response."""
    for index, (name, source) in enumerate(zip(scores.responses, scores.sources, strict=True)):
        yield stored_response(name, source, scores.part([index]))


def _responses(path: Path, split: str | None) -> Iterator[_Response]:
    splits: Counter[str] = Counter()
    number = 0
    for number, (where, item) in enumerate(json_lines(path, _WANTED), start=1):
        splits[str(item.get("split"))] += 1
        if split is None or item.get("split") == split:
            yield _response(item, where, number)
    if not number:
        raise DetectionError(f"{path} holds no responses; give {_WANTED}")
    if split is not None and not splits[split]:
        raise DetectionError(f"{path}: no response is of the split {split}{did_you_mean(split, splits)}")


def _response(item: JsonObject, where: str, number: int) -> _Response:
    chunks = item.get("scores")
    if chunks is not None and not isinstance(chunks, list):
        raise DetectionError(f"{where}: scores must be a list of chunks; found {_kind(chunks)}; give {_WANTED}")
    if chunks is None and not {"labels", "response", "id"} & set(item):
        raise DetectionError(
            f"{where}: has no scores; found {', '.join(sorted(item)[:10]) or 'nothing'}; give {_WANTED}"
        )
    text = item.get("response")
    baselines = dict(_numbers(item.get("baselines") or {}, f"{where}, baselines"))
    if isinstance(text, str):
        baselines.setdefault(_LENGTH, float(len(text)))
    return _Response(
        name=str(item.get("id", number)),
        source=None if item.get("source_id") is None else str(item["source_id"]),
        chunks=[_chunk(chunk, f"{where}, chunk {at}") for at, chunk in enumerate(chunks or [], start=1)],
        baselines=baselines,
        spans_outside=outside_spans(item),
    )


def _chunk(chunk: Any, where: str) -> _Chunk:
    if not isinstance(chunk, dict):
        raise DetectionError(f"{where}: must be an object; found {_kind(chunk)}")
    label = chunk.get(_LABEL)
    if label is not None and label not in (0, 1):  # True and 1.0 are equal to 1
        raise DetectionError(f"{where}: {_LABEL} must be 0 or 1; found {str(label)[:40]!r}")
    heads, layers = ({**_numbers(chunk.get(key) or {}, f"{where}, {key}")} for key in (_HEADS, _LAYERS))
    return _Chunk(heads, layers, None if label is None else bool(label))


def _numbers(values: Any, where: str) -> dict[str, float]:
    """Return the numbers by name; null is not a number (NaN)."""
    if not isinstance(values, dict):
        raise DetectionError(f"{where}: must be an object of numbers by name; found {_kind(values)}")
    return {name: _number(value, f"{where}, {name}") for name, value in values.items()}


def _number(value: Any, where: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DetectionError(f"{where}: must be a number; found {_kind(value)}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _key_sets(responses: Iterable[_Response]) -> tuple[list[Mapping[str, float]], list[Mapping[str, float]]]:
    chunks = [chunk for response in responses for chunk in response.chunks]
    return [chunk.heads for chunk in chunks], [chunk.layers for chunk in chunks]


def _names_of_most(chunks: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    """Return the names that more than half of the chunks have, in the order of the file."""
    counts = Counter(name for values in chunks for name in values)
    return tuple(name for name, count in counts.items() if 2 * count > sum(map(bool, chunks)))


def _unusable(response: _Response, heads: Sequence[str], layers: Sequence[str]) -> str | None:
    """Return why a response cannot be used, or None. One chunk is enough: the score is the mean of all of them."""
    if not response.chunks:
        return "no chunks"
    for chunk in response.chunks:
        if chunk.label is None:
            return f"a chunk without {_LABEL}"
        for names, values in ((heads, chunk.heads), (layers, chunk.layers)):
            if not names or any(name not in values for name in names):
                return "a chunk without the scores of heads or layers that most chunks have"
            if not all(math.isfinite(values[name]) for name in names):
                return "a chunk with a score that is not finite"
    return None


def _baselines(kept: Sequence[_Response]) -> tuple[dict[str, Floats], list[str]]:
    """Return the baselines that every response has, and a note for each of the others."""
    names = dict.fromkeys(name for response in kept for name in response.baselines)
    values = {name: np.array([response.baselines.get(name, math.nan) for response in kept]) for name in names}
    is_known = {name: bool(np.isfinite(values_R).all()) for name, values_R in values.items()}
    notes = [f"baseline {name} left out: some responses have none" for name, known in is_known.items() if not known]
    return {name: values_R for name, values_R in values.items() if is_known[name]}, notes


def _notes(
    found: Sequence[_Response], kept: Sequence[_Response], heads: Sequence[str], layers: Sequence[str]
) -> Iterator[str]:
    for kind, names, chunks in zip(("head", "layer"), (heads, layers), _key_sets(found), strict=True):
        others = len({name for values in chunks for name in values}) - len(names)
        if others:
            yield f"{others} {kind}{'s' * (others > 1)} left out: scored in few chunks"
    outside = sum(response.spans_outside for response in found)
    if outside:
        verb = "s reach" if outside > 1 else " reaches"
        yield f"{outside} span{verb} outside the text of the response; chunks keep their stored labels"
    without = sum(response.source is None for response in kept)
    if without:
        yield f"{_responses_of(without)} without source_id: each is a source of its own"
    repeated = len(kept) - len({response.name for response in kept})
    if repeated:
        yield f"{_responses_of(repeated)} with the id of another"


def _responses_of(count: int) -> str:
    return f"{count} response{'s' * (count != 1)}"
