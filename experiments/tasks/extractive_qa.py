"""Extractive question answering in the layout of SQuAD v1.1 (also XQuAD and ViQuAD): prompts, exact match and F1.

English scores follow SQuAD's script (Rajpurkar et al. 2016, arXiv 1606.05250): answers are lower-cased, stripped of
punctuation and articles, and compared with each gold answer; the best counts. For other languages see `language.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from runtime_matrix.experiments.config import data_files
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import among, least
from runtime_matrix.experiments.evaluation.requests import Decoding, TextPrompt
from runtime_matrix.experiments.records.metric import Metric, figure, with_error
from runtime_matrix.experiments.statistics.descriptive import percent_standard_error
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.judge_metrics import judge_metrics
from runtime_matrix.experiments.tasks.language import ENGLISH, UNICODE, answer_words, chosen
from runtime_matrix.experiments.tasks.sampling import SampleOptions, sampled
from runtime_matrix.experiments.tasks.task import QualityTask, Rubric, Score, Texts, rows_per_forward, same_texts

STOP = ("\n",)
_WANTED = "a JSON file in SQuAD's v1.1 layout"
_SCORE = Score(
    metric="qa_f1",
    prefix="qa",
    noun="question answering",
    item_field="f1",
    scale=100.0,
    is_discrete=True,
    has_texts=True,
)


@dataclass(frozen=True, kw_only=True)
class ExtractiveQAConfig(SampleOptions):
    """Options of `extractive_qa`; `limit` is in questions."""

    data: str
    max_new_tokens: int = least(1)
    language: str = among("auto", ENGLISH, UNICODE)
    limit: int | None = least(1)


class ExtractiveQA(QualityTask[ExtractiveQAConfig]):
    """Generates answers to questions about passages by greedy decoding."""

    name = "extractive_qa"
    title = "extractive QA"
    data = "SQuAD v1.1 JSON (XQuAD, ViQuAD)"
    measures = "exact match, F1"
    position = 70
    Config = ExtractiveQAConfig
    bundled = "extractive_qa.json"
    score = _SCORE
    rubric = Rubric(cluster="cluster")
    metrics = (
        Metric(
            key="qa_f1",
            title="QA F1",
            rank=2,
            better="high",
            display=with_error(1),
            read=figure("f1"),
            error="f1_standard_error",
            trend="QA F1",
            smallest_step=0.005,
            stand_in="qa_exact_match",
            about="Word F1 of extractive question answering, 0 to 100; ± one standard error.",
        ),
        Metric(
            key="qa_exact_match",
            title="QA exact",
            rank=6,
            display=with_error(1),
            read=figure("exact_match"),
            error="exact_match_standard_error",
            about="Exact match of extractive question answering, 0 to 100; ± one standard error.",
            about_as_stand_in="Exact match of extractive question answering, equal to F1 in every row here; ± one "
            "standard error.",
        ),
        same_texts(_SCORE, "same QA answers", "the answers to questions"),
        rows_per_forward("qa"),
        *judge_metrics(_SCORE, "QA"),
    )

    @override
    def check_data(self, config: ExtractiveQAConfig) -> None:
        self._questions(config)

    @override
    def texts(self, config: ExtractiveQAConfig) -> Mapping[str, Sequence[Texts]]:
        questions = self._questions(config)
        return {self.name: [(question.context, question.text) for question in questions]}

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: ExtractiveQAConfig, point: str) -> None:
        questions = self._questions(config)
        prompts = [TextPrompt(question.id, prompt(question)) for question in questions]
        answers = bench.answers(prompts, Decoding(config.max_new_tokens, STOP))
        language = chosen(config.language, (answer for question in questions for answer in question.answers))
        passages: dict[str, int] = {}
        items = [
            Item(
                id=question.id,
                cluster=passages.setdefault(question.context, len(passages)),
                prompt=text_prompt.prompt,
                text=generated.text.strip(),
                ids=generated.ids,
                finished_by=generated.finished_by,
                answers=question.answers,
                is_right=exact_match(generated.text.strip(), question.answers, language),
                f1=f1(generated.text.strip(), question.answers, language),
            )
            for question, text_prompt, (generated,) in zip(questions, prompts, answers.texts, strict=True)
        ]
        bench.write_items(entry, items)
        exact, f1s = [item.is_right for item in items], [item.f1 for item in items]
        clusters = [item.cluster for item in items]
        result = summarise(exact, f1s)
        entry.parameters = {"max_new_tokens": config.max_new_tokens, "language": language}
        entry.figures = {
            "exact_match": result.exact_match,
            "exact_match_standard_error": percent_standard_error(exact, clusters),
            "f1": result.f1,
            "f1_standard_error": percent_standard_error(f1s, clusters),
            "items": result.items,
            "new_tokens": sum(len(item.ids) for item in items),
            **answers.figures,
        }

    def _questions(self, config: ExtractiveQAConfig) -> list[Question]:
        return sampled(load(self.path(config), config.limit), config, self.name)


TASK = ExtractiveQA()


@dataclass(frozen=True)
class Question:
    """A question about the passage `context`, with its distinct gold answers."""

    id: str
    context: str
    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """One line of the items file: an answer and its scores."""

    id: str
    cluster: int  # the same for all questions about one passage
    prompt: str
    text: str
    ids: tuple[int, ...]  # tokens of the text
    finished_by: str
    answers: tuple[str, ...]
    is_right: bool
    f1: float  # 0 to 1


@dataclass(frozen=True)
class QAScore:
    """The means over all questions."""

    exact_match: float  # 0 to 100, as SQuAD's script prints it
    f1: float  # 0 to 100
    items: int


def load(path: Path, limit: int | None = None) -> list[Question]:
    """Read the questions; UserError gives the file, what is wrong and after how many questions."""
    content = data_files.parse_json(data_files.read_text(path, _WANTED), f"{path} is not in SQuAD's v1.1 layout")
    questions: list[Question] = []
    try:
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                questions += [_question(path, paragraph["context"], item) for item in paragraph["qas"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is not in SQuAD's v1.1 layout: {error!r} after {len(questions)} questions") from error
    if not questions:
        raise UserError(f"{path} holds no question; give {_WANTED}")
    data_files.check_unique((question.id for question in questions), path)
    return questions[:limit]


def prompt(question: Question) -> str:
    """Return the zero-shot prompt; the answer follows it."""
    return asked(question.context, question.text)


def asked(context: str, question: str) -> str:
    """Return the zero-shot prompt of a question about a passage."""
    return f"Passage: {context}\n\nQuestion: {question}\nAnswer:"


def exact_match(prediction: str, answers: Sequence[str], language: str) -> bool:
    """Return whether the words equal those of any gold answer."""
    words = answer_words(prediction, language)
    return any(words == answer_words(answer, language) for answer in answers)


def f1(prediction: str, answers: Sequence[str], language: str) -> float:
    """Return the harmonic mean of word precision and recall, 0 to 1, for the best gold answer."""
    words = answer_words(prediction, language)
    return max(_f1(words, answer_words(answer, language)) for answer in answers)


def summarise(exact: Sequence[bool], f1s: Sequence[float]) -> QAScore:
    """Return the means. Standard errors are computed elsewhere, since they depend on shared passages."""
    return QAScore(100.0 * sum(exact) / len(exact), 100.0 * sum(f1s) / len(f1s), len(exact))


def _question(path: Path, context: str, item: JsonObject) -> Question:
    answers = tuple(dict.fromkeys(answer["text"] for answer in item["answers"]))
    for name, text in (
        ("context", context),
        ("question", item["question"]),
        *(("answer", answer) for answer in answers),
    ):
        if not isinstance(text, str):
            raise UserError(f"{path}: the {name} of the question {item['id']!r} is not a string: {text!r}")
    if not answers:
        raise UserError(f"{path}: the question {item['id']!r} has no answer; v2's unanswerable ones are not supported")
    return Question(str(item["id"]), context, item["question"], answers)


def _f1(predicted: Sequence[str], gold: Sequence[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)  # an answer of punctuation alone
    shared = sum((Counter(predicted) & Counter(gold)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(gold)
    return 2 * precision * recall / (precision + recall)
