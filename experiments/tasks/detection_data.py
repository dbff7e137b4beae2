"""Responses with labelled spans: RAGTruth's two files (Niu et al. 2024, arXiv 2401.00396), or JSON lines of our own.

A response that cannot be used is left out, and counted by its reason. Fields of a wrong type are errors of the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.config import data_files
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.tasks.extractive_qa import asked

WANTED = "a folder with RAGTruth's response.jsonl and source_info.jsonl, or JSON lines with prompt, response and labels"
_RESPONSES, _SOURCES = "response.jsonl", "source_info.jsonl"
_ABSENT = object()
Span = tuple[int, int]  # characters of the response


@dataclass(frozen=True, slots=True)
class Response:
    """A prompt with a context, a response to it, and the spans of the response that the context does not support."""

    id: str
    source_id: str
    prompt: str
    context: Span  # characters of the prompt; all of it if the context is not known apart
    text: str
    unsupported: tuple[Span, ...]  # in their order, none overlaps another; empty: the response is supported

    @property
    def is_unsupported(self) -> bool:
        """Return whether a span of the response is unsupported."""
        return bool(self.unsupported)


@dataclass(frozen=True)
class ResponseSet:
    """The responses that can be used, in the order of the file, and how many others there are by reason."""

    responses: list[Response]
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class _Source:
    prompt: str
    context: str | None


def load(path: Path, model: str | None, split: str | None, limit: int | None) -> ResponseSet:
    """Read the responses, of one model and one split if these are given. UserError for data that cannot be read."""
    sources = _sources(path / _SOURCES) if path.is_dir() else None
    lines = data_files.json_lines(path / _RESPONSES if sources is not None else path, WANTED)
    responses: list[Response] = []
    left_out: Counter[str] = Counter()
    chosen = _Chosen(path, model, split)
    for number, (where, item) in enumerate(lines, start=1):
        if not chosen.has(item, where):
            continue
        response = _response(item, where, f"{path.stem}-{number}", sources)
        if isinstance(response, str):
            left_out[response] += 1
        else:
            responses.append(response)
        if len(responses) == limit:
            break
    chosen.check()
    if not responses:
        found = ", ".join(f"{count} with {reason}" for reason, count in left_out.items()) or "nothing"
        raise UserError(f"{path} holds no response that can be used; found {found}; give {WANTED}")
    data_files.check_unique((response.id for response in responses), path)
    return ResponseSet(responses, dict(left_out))


class _Chosen:
    """The choice by model and split; an option that no line fits is an error that names what there is."""

    def __init__(self, path: Path, model: str | None, split: str | None):
        self._path, self._wanted = path, {"model": model, "split": split}
        self._found: dict[str, set[str]] = {name: set() for name in self._wanted}

    def has(self, item: JsonObject, where: str) -> bool:
        """Return whether the options choose this line."""
        for name, wanted in self._wanted.items():
            if wanted is not None:
                value = _text(item, name, where, default="")
                self._found[name].add(value)
                if value != wanted:
                    return False
        return True

    def check(self) -> None:
        """Raise UserError for a value that no line has."""
        for name, wanted in self._wanted.items():
            if wanted is not None and self._found[name] and wanted not in self._found[name]:
                known = did_you_mean(wanted, {value for value in self._found[name] if value})
                raise UserError(f"benchmark.detection.{name}={wanted}: {self._path} has no response of it{known}")


def _sources(path: Path) -> dict[str, _Source]:
    sources: dict[str, _Source] = {}
    for where, item in data_files.json_lines(path, WANTED):
        name, prompt = _identifier(item, "source_id", where), _text(item, "prompt", where)
        if name in sources:
            raise UserError(f"{where}: the source_id {name!r} occurs twice; remove one of its lines")
        sources[name] = _Source(prompt, _source_text(item.get("source_info"), where))
    return sources


def _source_text(info: object, where: str) -> str | None:
    """Return the text that the prompt quotes; None for structured data, which prompts write in a form of their own."""
    passages = info.get("passages") if isinstance(info, dict) else info
    if passages is not None and not isinstance(passages, str | dict | list):
        raise UserError(f"{where}: source_info must be a text or an object; found {_shown(info)}")
    return passages if isinstance(passages, str) else None


def _response(item: JsonObject, where: str, default_id: str, sources: Mapping[str, _Source] | None) -> Response | str:
    """Return the response of a line, or why it cannot be used."""
    name = _identifier(item, "id", where, default_id)
    text = _text(item, "response", where)
    labels = _labels(item, where)
    if sources is None:
        source_id, source = _identifier(item, "source_id", where, name), _own_source(item, where)
    else:
        source_id = _identifier(item, "source_id", where)
        if source_id not in sources:
            return f"a source_id that {_SOURCES} lacks"
        source = sources[source_id]
    if not text.strip():
        return "no text"
    if not source.prompt.strip():
        return "no prompt"
    if any(not 0 <= start < end <= len(text) for start, end in labels):
        return "a label that is no part of the response"
    return Response(name, source_id, source.prompt, _context(source), text, _merged(labels))


def _own_source(item: JsonObject, where: str) -> _Source:
    context = None if item.get("context") is None else _text(item, "context", where)
    if context is None and "prompt" not in item:
        raise UserError(f"{where}: has neither prompt nor context; found {_names(item)}; give {WANTED}")
    if "prompt" in item or context is None:
        return _Source(_text(item, "prompt", where), context)
    return _Source(asked(context, _text(item, "question", where)) if "question" in item else context, context)


def _context(source: _Source) -> Span:
    """Return where the prompt has the context: its last place, as few-shot examples come first."""
    start = source.prompt.rfind(source.context) if source.context and source.context.strip() else -1
    return (start, start + len(source.context or "")) if start >= 0 else (0, len(source.prompt))


def _labels(item: JsonObject, where: str) -> list[Span]:
    labels = item.get("labels")
    if not isinstance(labels, list):
        found = f"found {_names(item)}" if labels is None else f"found {_shown(labels)}"
        raise UserError(f"{where}: labels must be a list of spans, empty for a supported response; {found}")
    return list(_label_spans(labels, where))


def _label_spans(labels: list[Any], where: str) -> Iterator[Span]:
    for number, label in enumerate(labels, start=1):
        start, end = (label.get("start"), label.get("end")) if isinstance(label, dict) else (None, None)
        if type(start) is not int or type(end) is not int:  # true and false are no characters
            raise UserError(f"{where}: label {number} needs start and end, whole numbers; found {_shown(label)}")
        yield start, end


def _merged(spans: list[Span]) -> tuple[Span, ...]:
    """Return the spans in their order, those that overlap joined."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def _identifier(item: JsonObject, name: str, where: str, default: str | None = None) -> str:
    value = item.get(name, default)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserError(f"{where}: {name} must be a text or a whole number; found {_shown(value)}")
    return str(value)


def _text(item: JsonObject, name: str, where: str, default: object = _ABSENT) -> str:
    value = item.get(name, default)
    if value is _ABSENT:
        raise UserError(f"{where}: has no {name}; found {_names(item)}; give {WANTED}")
    if not isinstance(value, str):
        raise UserError(f"{where}: {name} must be a text; found {_shown(value)}")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise UserError(f"{where}: {name} has half of a surrogate pair, which is no character; remove it")
    return value


def _names(item: JsonObject) -> str:
    return ", ".join(sorted(item)[:10]) or "nothing"


def _shown(value: object) -> str:
    return f"{value!r:.60}"
