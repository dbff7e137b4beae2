"""Logs of inspect_ai, `.eval` and `.json`. Newer `.eval` files are compressed with Zstandard: extra `inspect`."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from runtime_matrix.experiments.answers.task_answers import (
    MOST_BYTES,
    AnswerFormat,
    Collected,
    TaskAnswers,
    chosen,
    decoded,
    digest,
    is_number,
    read_text,
)
from runtime_matrix.experiments.config.errors import UserError

# Of inspect_ai.scorer.value_to_float: correct, incorrect, partial, no answer.
_GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}


class _Score(Struct, frozen=True):
    value: Any = None


class _Sample(Struct, frozen=True, kw_only=True):
    id: int | str
    epoch: int = 1
    input: Any = None
    target: Any = None
    scores: dict[str, _Score] | None = None


class _Task(Struct, frozen=True, kw_only=True):
    task: str


class _Header(Struct, frozen=True, kw_only=True):
    status: str
    task: _Task = field(name="eval")


class _Log(_Header, frozen=True, kw_only=True):
    samples: list[_Sample] | None = None


def _files(path: Path) -> Sequence[Path]:
    if path.is_file():
        is_log = path.suffix == ".eval" or (path.suffix == ".json" and _looks_like_a_log(path))
        return [path] if is_log else []
    logs = sorted(path.glob("*.eval")) or [file for file in sorted(path.glob("*.json")) if _looks_like_a_log(file)]
    return logs


def _looks_like_a_log(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(2000)
    return b'"status"' in head and b'"eval"' in head and b'"version"' in head


def _read(path: Path, metric: str | None) -> list[TaskAnswers]:
    header, samples = _from_archive(path) if path.suffix == ".eval" else _from_json(path)
    if header.status != "success":
        raise UserError(f"{path} is the log of a run that did not finish: its status is {header.status}")
    unscored = [sample.id for sample in samples if not sample.scores]
    if unscored:
        raise UserError(f"{path}: {len(unscored)} of {len(samples)} samples have no score, the first is {unscored[0]}")
    known = dict.fromkeys(name for sample in samples for name in sample.scores or {})
    name = chosen(path, metric, list(known))
    collected = Collected(path, header.task.task, name)
    for sample in samples:
        score = (sample.scores or {}).get(name)
        item = f"{sample.id}" if sample.epoch == 1 else f"{sample.id} (epoch {sample.epoch})"
        value = None if score is None else _number(score.value)
        collected.add(item, value, digest(sample.input, sample.target), str(sample.id))
    return [collected.answers()]


def _number(value: Any) -> Any:
    if isinstance(value, str):
        return _GRADES.get(value, _WORDS.get(value.lower(), value))
    return value if is_number(value) else str(value)


def _from_json(path: Path) -> tuple[_Header, list[_Sample]]:
    log = decoded(path, read_text(path), _Log)
    return log, log.samples or []


def _from_archive(path: Path) -> tuple[_Header, list[_Sample]]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            if "header.json" not in infos:
                raise UserError(f"{path} is the log of a run that did not finish: it has no header.json")
            header = decoded(path, _member(path, archive, infos["header.json"]), _Header)
            return header, list(_samples(path, archive, infos))
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is damaged or truncated: {error}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _samples(path: Path, archive: zipfile.ZipFile, infos: dict[str, zipfile.ZipInfo]) -> Iterator[_Sample]:
    """Yield the samples, from the summaries where they are: those lack only texts."""
    for name, info in infos.items():
        if name.startswith("samples/") and name.endswith(".json"):
            yield decoded(path, _member(path, archive, info), _Sample)


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > MOST_BYTES:
        raise UserError(f"{path}: {info.filename} is larger than {MOST_BYTES // 2**30} GiB")
    try:
        return archive.read(info)
    except NotImplementedError:
        return _with_zstandard(path, info)


def _with_zstandard(path: Path, info: zipfile.ZipInfo) -> bytes:
    try:
        import zipfile_zstd  # noqa: F401  # it teaches zipfile the method
    except ImportError as error:
        raise UserError(
            f"{path} is compressed with Zstandard: pip install 'runtime-matrix[inspect]', or write a .json log"
        ) from error
    with zipfile.ZipFile(path) as archive:
        return archive.read(info.filename)


FORMAT = AnswerFormat("inspect", "logs of inspect_ai, .eval or .json", _files, _read)
