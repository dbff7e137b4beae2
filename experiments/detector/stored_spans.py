"""The spans of characters that a stored response names: those of its chunks and of its annotated labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runtime_matrix.experiments.config.plain_json import JsonObject


def outside_spans(item: JsonObject) -> int:
    """Return how many spans do not lie within the response's text; 0 if there is no text."""
    text = item.get("response")
    if not isinstance(text, str):
        return 0
    return sum(not 0 <= start <= end <= len(text) for start, end in _spans(item))


def _spans(item: JsonObject) -> Iterator[tuple[int, int]]:
    for span in _listed(item.get("response_spans")):
        if isinstance(span, list) and len(span) == 2 and all(isinstance(part, int) for part in span):
            yield span[0], span[1]
    for label in _listed(item.get("labels")):
        bounds = (label.get("start"), label.get("end")) if isinstance(label, dict) else (None, None)
        if isinstance(bounds[0], int) and isinstance(bounds[1], int):
            yield bounds[0], bounds[1]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
