"""Extractive question answering in SQuAD's v1.1 layout (XQuAD's and ViQuAD's too): prompts, exact match and F1.

In English the scores follow SQuAD's own script (Rajpurkar et al. 2016, arXiv 1606.05250): answers are lower-cased,
stripped of punctuation and articles, and compared with each gold answer; the best counts. For others see `language`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.errors import UserError
from runtime_matrix.experiments.plain_json import JsonObject
from runtime_matrix.experiments.tasks import files
from runtime_matrix.experiments.tasks.language import answer_words

STOP = ("\n",)
_WANTED = "a JSON file in SQuAD's v1.1 layout"


@dataclass(frozen=True)
class Question:
    id: str
    context: str
    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """What is kept of one answer."""

    id: str
    cluster: int  # questions about one passage
    prompt: str
    text: str
    ids: tuple[int, ...]  # tokens of the text
    finished_by: str
    answers: tuple[str, ...]
    is_right: bool
    f1: float


@dataclass(frozen=True)
class QAScore:
    exact_match: float  # 0 to 100, as SQuAD's script prints it
    f1: float  # 0 to 100
    items: int


def load(path: Path, limit: int | None = None) -> list[Question]:
    """Read the questions; UserError names what is missing where."""
    content = files.parse_json(files.read_text(path, _WANTED), f"{path} is not in SQuAD's v1.1 layout")
    questions: list[Question] = []
    try:
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                questions += [_question(path, paragraph["context"], item) for item in paragraph["qas"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is not in SQuAD's v1.1 layout: {error!r} after {len(questions)} questions") from error
    if not questions:
        raise UserError(f"{path} holds no question; give {_WANTED}")
    files.check_unique((question.id for question in questions), path)
    return questions[:limit]


def prompt(question: Question) -> str:
    return f"Passage: {question.context}\n\nQuestion: {question.text}\nAnswer:"


def exact_match(prediction: str, answers: Sequence[str], language: str) -> bool:
    said = answer_words(prediction, language)
    return any(said == answer_words(answer, language) for answer in answers)


def f1(prediction: str, answers: Sequence[str], language: str) -> float:
    """Return the best harmonic mean of precision and recall over words, 0 to 1."""
    said = answer_words(prediction, language)
    return max(_f1(said, answer_words(answer, language)) for answer in answers)


def summarise(exact: Sequence[bool], f1s: Sequence[float]) -> QAScore:
    """Return the means; their errors depend on which questions share a passage (`measurement/statistics.py`)."""
    return QAScore(100.0 * sum(exact) / len(exact), 100.0 * sum(f1s) / len(f1s), len(exact))


def _question(path: Path, context: str, item: JsonObject) -> Question:
    answers = tuple(dict.fromkeys(answer["text"] for answer in item["answers"]))
    for name, text in (("context", context), ("question", item["question"]), *(("answer", one) for one in answers)):
        if not isinstance(text, str):
            raise UserError(f"{path}: the {name} of the question {item['id']!r} is no text: {text!r}")
    if not answers:
        raise UserError(f"{path}: the question {item['id']!r} has no answer; v2's unanswerable ones are not supported")
    return Question(str(item["id"]), context, item["question"], answers)


def _f1(said: Sequence[str], gold: Sequence[str]) -> float:
    if not said or not gold:
        return float(said == gold)  # an answer of nothing but punctuation
    shared = sum((Counter(said) & Counter(gold)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(said), shared / len(gold)
    return 2 * precision * recall / (precision + recall)
