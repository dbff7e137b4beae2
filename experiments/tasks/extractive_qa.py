"""Extractive question answering over passages, as in SQuAD v1.1 and 2.0, XQuAD and ViQuAD: prompts and scores.

In a set with unanswerable questions the prompt names a refusal, and the refusal is no answer. There is no score for "no
answer" that is apart from the text, so no best threshold is sought as SQuAD 2.0's script can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from runtime_matrix.experiments.config import data_files
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.validate import among, least
from runtime_matrix.experiments.evaluation.requests import Decoding, TextPrompt
from runtime_matrix.experiments.records.metric import Metric, figure, with_error
from runtime_matrix.experiments.statistics.descriptive import percent_standard_error
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import check_name
from runtime_matrix.experiments.tasks.formats.format import chosen as chosen_format
from runtime_matrix.experiments.tasks.formats.passages.question import WANTED, Question
from runtime_matrix.experiments.tasks.judge_metrics import judge_metrics
from runtime_matrix.experiments.tasks.language import LANGUAGES, UNICODE, answer_words, chosen
from runtime_matrix.experiments.tasks.qa_scores import by_answerability, scored, summarise
from runtime_matrix.experiments.tasks.sampling import SampleOptions, sampled
from runtime_matrix.experiments.tasks.task import QualityTask, Rubric, Score, Texts, rows_per_forward, same_texts

STOP = ("\n",)
_KIND = "passages"
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
    language: str = among(*LANGUAGES)
    limit: int | None = least(1)
    format: str | None = None  # by content
    refusal: str = "unanswerable"


def _of_kind(kind: str, title: str, of: str) -> Metric:
    """Return the metric for one kind of the questions of a set with unanswerable ones."""
    return Metric(
        key=f"qa_f1_{kind}",
        title=title,
        better="high",
        display=with_error(1),
        read=figure(f"{kind}_f1"),
        error=f"{kind}_f1_standard_error",
        about=f"Word F1 of {of}, 0 to 100, as in SQuAD 2.0; ± one standard error.",
    )


class ExtractiveQA(QualityTask[ExtractiveQAConfig]):
    """Generates answers to questions about passages by greedy decoding."""

    name = "extractive_qa"
    title = "extractive QA"
    data = "SQuAD v1.1 and 2.0 JSON (XQuAD, ViQuAD), or their rows as JSON"
    measures = "exact match, F1; with unanswerable questions also those of both kinds"
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
        _of_kind("has_answer", "QA F1, answerable", "questions that the passage answers"),
        _of_kind("no_answer", "QA F1, unanswerable", "questions that the passage does not answer"),
        same_texts(_SCORE, "same QA answers", "the answers to questions"),
        rows_per_forward("qa"),
        *judge_metrics(_SCORE, "QA"),
    )

    @override
    def check(self, config: ExtractiveQAConfig) -> None:
        check_name(_KIND, config.format, self.name)
        if not answer_words(config.refusal, UNICODE):
            raise UserError(
                f"benchmark.extractive_qa.refusal={config.refusal!r} has no word: name a text such as unanswerable"
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
        prompts = [TextPrompt(question.id, prompt(question, config.refusal)) for question in questions]
        answers = bench.answers(prompts, Decoding(config.max_new_tokens, STOP))
        language = chosen(config.language, (answer for question in questions for answer in question.answers))
        passages: dict[str, int] = {}
        clusters = [passages.setdefault(question.context, len(passages)) for question in questions]
        texts = [generated.text.strip() for (generated,) in answers.texts]
        scores = [
            scored(question, text, config.refusal, language) for question, text in zip(questions, texts, strict=True)
        ]
        items = [
            Item(
                id=question.id,
                cluster=cluster,
                prompt=text_prompt.prompt,
                text=text,
                ids=generated.ids,
                finished_by=generated.finished_by,
                answers=question.answers or (config.refusal,),
                is_right=answer.is_right,
                f1=answer.f1,
                is_refusal=answer.is_refusal,
            )
            for question, cluster, text_prompt, text, (generated,), answer in zip(
                questions, clusters, prompts, texts, answers.texts, scores, strict=True
            )
        ]
        bench.write_items(entry, items)
        exact, f1s = [item.is_right for item in items], [item.f1 for item in items]
        result = summarise(exact, f1s)
        refusal = {"refusal": config.refusal} if any(question.may_refuse for question in questions) else {}
        entry.parameters = {"max_new_tokens": config.max_new_tokens, "language": language, **refusal}
        entry.figures = {
            "exact_match": result.exact_match,
            "exact_match_standard_error": percent_standard_error(exact, clusters),
            "f1": result.f1,
            "f1_standard_error": percent_standard_error(f1s, clusters),
            **by_answerability(questions, scores, clusters),
            "items": result.items,
            "new_tokens": sum(len(item.ids) for item in items),
            **answers.figures,
        }

    def _questions(self, config: ExtractiveQAConfig) -> list[Question]:
        return sampled(load(self.path(config), config.limit, config.format), config, self.name)


TASK = ExtractiveQA()


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
    is_refusal: bool | None = None  # None: no question of the set may be refused


def load(path: Path, limit: int | None = None, format_name: str | None = None) -> list[Question]:
    """Read the questions in any known format; UserError gives the file and what is wrong."""
    content = Content(path, WANTED)
    questions: list[Question] = chosen_format(_KIND, content, format_name, "extractive_qa").read(content)
    if not questions:
        raise UserError(f"{path} holds no question; give {WANTED}")
    data_files.check_unique((question.id for question in questions), path)
    return questions[:limit]


def prompt(question: Question, refusal: str = "") -> str:
    """Return the zero-shot prompt; the answer follows it. A set with unanswerable questions names the refusal."""
    if not question.may_refuse:
        return asked(question.context, question.text)
    return asked(question.context, f"{question.text} (Answer {refusal!r} if the passage does not say.)")


def asked(context: str, question: str) -> str:
    """Return the zero-shot prompt of a question about a passage."""
    return f"Passage: {context}\n\nQuestion: {question}\nAnswer:"
