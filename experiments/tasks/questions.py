"""Questions with choices, read from public formats: folders as in MMLU (Hendrycks et al.), CSV, JSONL, JSON arrays."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.config import data_files
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject

# Field names of a question: ours first, then those of public data sets.
_QUESTION = ("question", "query", "prompt", "goal", "ctx")
_CHOICES = ("choices", "options", "endings")
_ANSWER = ("answer", "answerkey", "answerKey", "gold", "label", "target")
_SUBJECT = ("subject", "category")
LETTERS = "ABCDEFGHIJ"
_LETTERED = re.compile(r"\s*\(?([A-J])[.):]\s+")
_WANTED = "a CSV, a JSONL or a folder in Hendrycks' layout"


@dataclass(frozen=True, slots=True)
class Question:
    """A question with 2 to 10 choices."""

    id: str
    subject: str
    text: str
    choices: tuple[str, ...]
    answer: int  # index of the right choice


@dataclass(frozen=True)
class QuestionSet:
    """Test questions, subject by subject, and the few-shot examples of each subject."""

    questions: list[Question]
    shots_by_subject: dict[str, list[Question]]


def load(path: Path, limit: int | None, shots: int, fields: Mapping[str, str] | None = None) -> QuestionSet:
    """Read a folder in Hendrycks' layout (`test/`, `dev/`), one CSV, JSONL or JSON array.

    `fields` maps our field names to the data's. `limit` takes questions from the subjects in turn; the result is
    grouped by subject. UserError gives the file and line of unusable data.
    """
    if path.is_dir():
        tests = sorted((path / "test").glob("*_test.csv"))
        if not tests:
            raise UserError(f"{path} holds no test/*_test.csv; give a folder in Hendrycks' layout, a CSV or a JSONL")
        by_subject: dict[str, list[Question]] = {
            file.stem.removesuffix("_test"): _read_csv(file, fields) for file in tests
        }
        examples = _shots(path / "dev", list(by_subject), shots, fields)
    else:
        is_json = path.suffix in (".jsonl", ".json")
        all_questions = _read_jsonl(path, fields) if is_json else _read_csv(path, fields)
        by_subject = {}
        for question in all_questions:
            by_subject.setdefault(question.subject, []).append(question)
        # A single file has no separate examples: the first questions of each subject serve, and are not scored.
        examples = {subject: group[:shots] for subject, group in by_subject.items()}
        by_subject = {subject: group[shots:] for subject, group in by_subject.items()}
    questions = _in_turn(list(by_subject.values()), limit)
    if not questions:
        raise UserError(f"{path} has no question left to ask; give more questions or fewer shots than {shots}")
    data_files.check_unique((question.id for question in questions), path)
    return QuestionSet(questions, examples)


def _shots(
    folder: Path, subjects: Sequence[str], shots: int, fields: Mapping[str, str] | None
) -> dict[str, list[Question]]:
    examples: dict[str, list[Question]] = {}
    for subject in subjects if shots else ():
        file = folder / f"{subject}_dev.csv"
        examples[subject] = _read_csv(file, fields)
        if len(examples[subject]) < shots:
            raise UserError(f"{file} has {len(examples[subject])} examples, but shots={shots}: lower shots")
    return examples


def _read_csv(path: Path, fields: Mapping[str, str] | None = None) -> list[Question]:
    """Read a CSV with a header, or rows of question, choices and answer."""
    subject = path.stem.removesuffix("_test").removesuffix("_dev")
    questions: list[Question] = []
    header: list[str] | None = None
    lowered = {ours: given.lower() for ours, given in (fields or {}).items()}
    for where, row in _csv_rows(path):
        if not questions and header is None and _is_header(row, fields or {}):
            header = [name.strip().lower() for name in row]
            continue
        name = f"{subject}-{len(questions)}"
        if header is not None:
            item = data_files.renamed(dict(zip(header, row, strict=False)), lowered, where)
            item = _named(item, [name for name in header if name not in lowered.values()])
            questions.append(_from_item(item, name, subject, where))
            continue
        if len(row) < 4:
            raise UserError(f"{where}: found {len(row)} fields; a question, its choices and the answer are needed")
        questions.append(_question(name, subject, row[0], row[1:-1], row[-1], where))
    if not questions:
        raise UserError(f"{path} holds no question; give a CSV with a question, its choices and the answer per line")
    return questions


def _csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    reader = csv.reader(data_files.lines(path, _WANTED))
    while True:
        where = f"{path}, line {reader.line_num + 1}"
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{where}: not CSV: {error}; give {_WANTED}") from error
        if row:
            yield f"{path}, line {reader.line_num}", row


def _is_header(row: Sequence[str], fields: Mapping[str, str]) -> bool:
    names = {name.strip().lower() for name in row}
    if fields:
        return all(given.lower() in names for given in fields.values())
    return bool(names & set(_QUESTION)) and bool(names & set(_ANSWER))


def _named(item: JsonObject, header: Sequence[str]) -> JsonObject:
    """Return a row with `choices`: the columns named like choices (A, B, C), otherwise all unknown columns."""
    if "choices" in item:
        return item
    known = {*_QUESTION, *_ANSWER, *_SUBJECT, "id", "index"}
    choices = [name for name in header if name not in known]
    lettered = [name for name in choices if re.fullmatch(r"(choice|option|endings?)?[ _]?([a-j]|\d)", name)]
    return {**item, "choices": [item[name] for name in lettered or choices if item.get(name)]}


def _read_jsonl(path: Path, fields: Mapping[str, str] | None = None) -> list[Question]:
    questions = [
        _from_item(item, f"{path.stem}-{number}", path.stem, where)
        for number, (where, item) in enumerate(data_files.json_lines(path, _WANTED, fields), start=1)
    ]
    if not questions:
        raise UserError(f"{path} holds no question; give one JSON object per line")
    return questions


def _from_item(item: JsonObject, name: str, subject: str, where: str) -> Question:
    text, choices, answer = (_first(item, keys, where) for keys in (_QUESTION, _CHOICES, _ANSWER))
    labels: Sequence[object] = ()
    if isinstance(choices, Mapping):  # as in data sets of the Hugging Face Hub
        labels, choices = choices.get("label") or (), choices.get("text")
    if not isinstance(choices, list) or not all(isinstance(choice, str | int | float) for choice in choices):
        raise UserError(f"{where}: choices must be a list of texts; found {str(choices)[:60]}")
    if answer in labels:
        answer = list(labels).index(answer)
    subject = str(next((item[key] for key in _SUBJECT if item.get(key)), subject))
    return _question(str(item.get("id", name)), subject, text, choices, answer, where)


def _first(item: JsonObject, keys: Sequence[str], where: str) -> Any:
    for key in keys:
        if item.get(key) is not None:
            return item[key]
    raise UserError(
        f"{where}: not an object with question, choices and answer: no {keys[0]} (nor {', '.join(keys[1:])}); found "
        f"{', '.join(map(str, item)) or 'nothing'}; benchmark.multiple_choice.fields={{{keys[0]}: NAME}} names another"
    )


def _question(name: str, subject: str, text: object, choices: Sequence[object], answer: object, where: str) -> Question:
    if not 2 <= len(choices) <= len(LETTERS):
        raise UserError(f"{where}: found {len(choices)} choices; 2 to {len(LETTERS)} are supported")
    word = str(answer).strip()
    index = int(word) if word.isdecimal() else LETTERS.find(word) if len(word) == 1 else -1
    if not 0 <= index < len(choices):
        raise UserError(
            f"{where}: the answer {word!r} is not one of the {len(choices)} choices; use a letter or an index"
        )
    return Question(name, subject, str(text), _unlettered(tuple(map(str, choices))), index)


def _unlettered(choices: tuple[str, ...]) -> tuple[str, ...]:
    """Return the choices without their own letters ("A. …", as in VMLU), if each has the right one."""
    matches = [_LETTERED.match(choice) for choice in choices]
    if all(match is not None and match[1] == letter for match, letter in zip(matches, LETTERS, strict=False)):
        return tuple(choice[match.end() :] for choice, match in zip(choices, matches, strict=True) if match is not None)
    return choices


def _in_turn(groups: Sequence[Sequence[Question]], limit: int | None) -> list[Question]:
    if limit is None:
        return [question for group in groups for question in group]
    longest = max(len(group) for group in groups)
    turns = [
        (place, group[index]) for index in range(longest) for place, group in enumerate(groups) if index < len(group)
    ]
    return [question for _, question in sorted(turns[:limit], key=lambda turn: turn[0])]
