"""Questions as CSV with or without a header, JSON lines or a JSON array, with fields of many names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from runtime_matrix.experiments.config import data_files
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.tasks.formats.choices.question import LETTERS, Question, ReadQuestions, grouped
from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import Format

# Field names of a question: ours first, then those of public data sets.
_QUESTION = ("question", "query", "prompt", "goal", "ctx")
_CHOICES = ("choices", "options", "endings")
_ANSWER = ("answer", "answerkey", "answerKey", "gold", "label", "target")
_SUBJECT = ("subject", "category")
_LETTERED = re.compile(r"\s*\(?([A-J])[.):]\s+")


def _read(content: Content) -> ReadQuestions:
    return ReadQuestions(grouped(_read_json(content) if content.is_json else read_csv(content)))


def read_csv(content: Content) -> list[Question]:
    """Return the questions of a CSV with a header, or of rows of question, choices and answer."""
    path, fields = content.path, content.fields
    subject = path.stem.removesuffix("_test").removesuffix("_dev")
    questions: list[Question] = []
    header: list[str] | None = None
    lowered = {ours: given.lower() for ours, given in fields.items()}
    for where, row in content.rows():
        if not questions and header is None and _is_header(row, fields):
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


def _read_json(content: Content) -> list[Question]:
    path = content.path
    questions = [
        _from_item(item, f"{path.stem}-{number}", path.stem, where)
        for number, (where, item) in enumerate(content.items(), start=1)
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


FORMAT = Format("plain", "CSV or JSON of questions", lambda content: not content.is_folder, _read, is_general=True)
