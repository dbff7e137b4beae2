"""The scored answers of one task, and what a file format must provide to give them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from runtime_matrix.experiments.config.errors import UserError, did_you_mean

T = TypeVar("T")
MOST_BYTES = 2**31  # of one file, or of one member of an archive


@dataclass(frozen=True)
class TaskAnswers:
    """One task: for each item its id, score, cluster (items of one cluster are not independent) and question.

    `questions` are digests of question and right answer, or None where the format does not tell.
    """

    task: str
    metric: str
    ids: list[str]
    scores: list[float]
    clusters: list[Hashable]
    questions: list[str | None]
    higher_is_better: bool = True

    @property
    def is_share(self) -> bool:
        """Return whether every score lies between 0 and 1."""
        return all(0 <= score <= 1 for score in self.scores)


@dataclass(frozen=True)
class AnswerFormat:
    """A file format. `files` returns the files of this format at a path, a file or a folder; `read` reads one.

    `read` takes the name of a metric, or None for the format's default. It raises UserError for damaged files.
    """

    name: str
    summary: str
    files: Callable[[Path], Sequence[Path]]
    read: Callable[[Path, str | None], list[TaskAnswers]]


class Collected:
    """Collects the items of one task from a file; UserError for a repeated id or a score that is no number."""

    def __init__(self, path: Path, task: str, metric: str, higher_is_better: bool = True):
        self._path, self._task, self._metric, self._higher_is_better = path, task, metric, higher_is_better
        self._items: dict[str, tuple[float, Hashable, str | None]] = {}

    def add(self, name: object, score: object, question: str | None, cluster: Hashable = None) -> None:
        """Add one item; `cluster` None: the item is independent of the others."""
        item = str(name)
        if item in self._items:
            raise UserError(f"{self._path}: item {item} of {self._task} occurs twice")
        if isinstance(score, str) or not isinstance(score, int | float) or not math.isfinite(score):
            raise UserError(f"{self._path}: item {item} of {self._task} has no number as {self._metric}: {score!r:.60}")
        self._items[item] = (float(score), item if cluster is None else cluster, question)

    def answers(self) -> TaskAnswers:
        """Return the items in their order. UserError if there is none."""
        if not self._items:
            raise UserError(f"{self._path} holds no item of {self._task}")
        scores, clusters, questions = zip(*self._items.values(), strict=True)
        return TaskAnswers(
            self._task,
            self._metric,
            list(self._items),
            list(scores),
            list(clusters),
            list(questions),
            self._higher_is_better,
        )


def digest(*parts: object) -> str:
    """Return a digest of a question and its right answer."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def read_text(path: Path) -> str:
    """Return a file's text. UserError if it cannot be read or is too large."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is larger than {MOST_BYTES // 2**30} GiB")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8") from error


def json_lines(path: Path, kind: type[T]) -> Iterator[T]:
    """Yield each line of a file as the type. UserError with the line's number for the first that is not one."""
    lines = read_text(path).splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            yield msgspec.json.decode(line, type=kind)
        except (msgspec.DecodeError, RecursionError) as error:
            last = "; it is the last line: the file may be truncated" if number == len(lines) else ""
            raise UserError(f"{path}, line {number}: {error}{last}") from error


def decoded(path: Path, text: str | bytes, kind: type[T]) -> T:
    """Return JSON as the type. UserError if it is not."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UserError(f"{path} is damaged or of another format: {error}") from error


def chosen(path: Path, wanted: str | None, known: Sequence[str]) -> str:
    """Return the wanted name, or the first known one. UserError for an unknown one."""
    if not known:
        raise UserError(f"{path} holds no score per item")
    if wanted is not None and wanted not in known:
        raise UserError(f"{path} has no metric {wanted}{did_you_mean(wanted, known)}")
    return wanted or known[0]


def is_number(value: Any) -> bool:
    """Return whether a score can be compared: a number, or true and false."""
    return isinstance(value, bool | int | float)
