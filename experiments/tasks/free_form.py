"""Free-form answers: JSON lines of a prompt and the accepted answers, compared with the text by one of several rules.

`exact` compares the texts, `normalized` their words as SQuAD does (see `language.py`), and `contains` looks for the
answer's words in the text. With `regex`, the answers are patterns to find in it. `number` compares the last numbers of
text and answer, as GSM8K is scored (Cobbe et al. 2021, arXiv 2110.14168).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from typing_extensions import override

from runtime_matrix.experiments.config import data_files
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import Rule, among, least
from runtime_matrix.experiments.evaluation.requests import Decoding, TextPrompt
from runtime_matrix.experiments.records.metric import Metric, figure, with_error
from runtime_matrix.experiments.statistics.descriptive import standard_error
from runtime_matrix.experiments.tasks import extractive_qa
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.judge_metrics import judge_metrics
from runtime_matrix.experiments.tasks.language import LANGUAGES, UNICODE, answer_words, chosen
from runtime_matrix.experiments.tasks.sampling import SampleOptions, sampled
from runtime_matrix.experiments.tasks.task import (
    QualityTask,
    Rubric,
    Score,
    Texts,
    flips,
    percent_of_reference,
    rows_per_forward,
    same_texts,
)

MATCHES = ("exact", "normalized", "contains", "regex", "number")
_MOST_SEARCH_S = 2.0  # for a pattern, which comes from a file, in one text
# A minus after a digit or a bracket is no sign; commas stand between groups of three digits.
_NUMBER = re.compile(r"(?:(?<![\w)])-)?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)")
_WANTED = "JSON lines of prompt and answer"
_SCORE = Score(
    metric="free_form_accuracy", prefix="free_form", noun="free-form answers", is_discrete=True, has_texts=True
)


@dataclass(frozen=True, kw_only=True)
class FreeFormConfig(SampleOptions):
    """Options of `free_form`; `limit` is in prompts."""

    data: str
    fields: dict[str, str] | None
    match: str = among(*MATCHES)
    max_new_tokens: int = least(1)
    stop: tuple[str, ...] = Rule(may_be_empty=True).field()
    language: str = among(*LANGUAGES)
    limit: int | None = least(1)


class FreeForm(QualityTask[FreeFormConfig]):
    """Greedy texts that are right or wrong."""

    name = "free_form"
    title = "free-form"
    data = "JSON lines of a prompt and an answer or several, as in GSM8K (bundled: the questions of `extractive_qa`)"
    measures = "accuracy by exact, normalized or contained text, by pattern, or by the last number"
    position = 85
    Config = FreeFormConfig
    bundled = extractive_qa.TASK.bundled
    score = _SCORE
    rubric = Rubric(cluster="cluster")
    metrics = (
        Metric(
            key="free_form_accuracy",
            title="free-form",
            rank=2,
            better="high",
            display=with_error(3),
            read=figure("accuracy"),
            error="standard_error",
            trend="free-form accuracy",
            smallest_step=0.005,
            about="Share of free-form answers that are right; ± one standard error.",
        ),
        percent_of_reference(_SCORE, "free-form"),
        flips(_SCORE, "free-form flips"),
        same_texts(_SCORE, "same free-form", "the free-form answers"),
        rows_per_forward("free_form"),
        *judge_metrics(_SCORE, "free-form"),
    )

    @override
    def check(self, config: FreeFormConfig) -> None:
        if not all(config.stop):
            raise UserError("benchmark.free_form.stop contains an empty text, which would end every answer at once")

    @override
    def check_data(self, config: FreeFormConfig) -> None:
        self._examples(config)

    @override
    def texts(self, config: FreeFormConfig) -> Mapping[str, Sequence[Texts]]:
        return {self.name: [(example.prompt,) for example in self._examples(config)]}

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: FreeFormConfig, point: str) -> None:
        examples = self._examples(config)
        prompts = [TextPrompt(example.id, example.prompt) for example in examples]
        answers = bench.answers(prompts, Decoding(config.max_new_tokens, config.stop))
        language = chosen(config.language, (answer for example in examples for answer in example.answers))
        items = [
            Item(
                id=example.id,
                subject=example.subject,
                cluster=example.cluster,
                prompt=example.prompt,
                text=generated.text.strip(),
                ids=generated.ids,
                finished_by=generated.finished_by,
                answers=example.answers,
                is_right=is_match(generated.text.strip(), example.answers, config.match, language),
            )
            for example, (generated,) in zip(examples, answers.texts, strict=True)
        ]
        bench.write_items(entry, items)
        right = [item.is_right for item in items]
        clusters = [item.cluster or item.subject or item.id for item in items]
        entry.parameters = {"max_new_tokens": config.max_new_tokens, "match": config.match, "language": language}
        entry.figures = {
            "accuracy": sum(right) / len(right),
            "standard_error": standard_error(right, clusters),
            "items": len(items),
            "new_tokens": sum(len(item.ids) for item in items),
            **answers.figures,
        }

    def _examples(self, config: FreeFormConfig) -> list[Example]:
        if config.data == "bundled":
            examples = _bundled(self.path(config))[: config.limit]
        else:
            examples = load(self.path(config), config.limit, config.fields)
        for example in examples:
            _check_answers(example, config)
        return sampled(examples, config, self.name, lambda example: example.subject)


TASK = FreeForm()


@dataclass(frozen=True)
class Example:
    """A prompt and its accepted answers. `subject` and `cluster` are empty where the data has none."""

    id: str
    prompt: str
    answers: tuple[str, ...]
    subject: str = ""
    cluster: str | None = None  # items of one cluster are not independent


@dataclass(frozen=True)
class Item:
    """One line of the items file: an answer and its score."""

    id: str
    subject: str
    cluster: str | None
    prompt: str
    text: str
    ids: tuple[int, ...]  # tokens of the text
    finished_by: str
    answers: tuple[str, ...]
    is_right: bool


def load(path: Path, limit: int | None = None, fields: Mapping[str, str] | None = None) -> list[Example]:
    """Read prompts and answers; UserError gives the line and the missing or unusable field."""
    examples = [
        _example(where, number, item)
        for number, (where, item) in enumerate(data_files.json_lines(path, _WANTED, fields))
    ]
    if not examples:
        raise UserError(f"{path} holds no prompt; give {_WANTED}")
    data_files.check_unique((example.id for example in examples), path)
    return examples[:limit]


def is_match(text: str, answers: Sequence[str], match: str, language: str) -> bool:
    """Return whether a text is one of the accepted answers by the rule `match`."""
    if match == "exact":
        return any(text.strip() == answer.strip() for answer in answers)
    if match == "regex":
        return any(_is_found(answer, text) for answer in answers)
    if match == "number":
        number = last_number(text)
        return number is not None and any(number == last_number(answer) for answer in answers)
    words, accepted = answer_words(text, language), [answer_words(answer, language) for answer in answers]
    if match == "normalized":
        return words in accepted
    return any(f" {' '.join(answer)} " in f" {' '.join(words)} " for answer in accepted)


def _is_found(pattern: str, text: str) -> bool:
    """Return whether a pattern is found in a text; UserError for one that backtracks for too long."""
    import regex

    try:
        return regex.search(pattern, text, timeout=_MOST_SEARCH_S) is not None
    except TimeoutError as error:
        raise UserError(
            f"the pattern {pattern[:60]!r} takes longer than {_MOST_SEARCH_S:g} s on a text: simplify it, or choose "
            "another benchmark.free_form.match than regex"
        ) from error


def last_number(text: str) -> Decimal | None:
    """Return the last number of a text, without commas between digits; None if there is none."""
    numbers = _NUMBER.findall(text)
    return Decimal(numbers[-1].replace(",", "")) if numbers else None


def _example(where: str, number: int, item: JsonObject) -> Example:
    for name in ("prompt", "answer"):
        if item.get(name) is None:
            raise UserError(
                f"{where}: has no {name}; found {', '.join(map(str, item)) or 'nothing'}; "
                f"benchmark.free_form.fields={{{name}: NAME}} names another field"
            )
    prompt, answers = item["prompt"], item["answer"] if isinstance(item["answer"], list) else [item["answer"]]
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f"{where}: the prompt must be a text; found {str(prompt)[:60]!r}")
    if not answers or not all(isinstance(answer, str | int | float) for answer in answers):
        raise UserError(f"{where}: the answer must be a text or a list of texts; found {str(item['answer'])[:60]!r}")
    cluster = item.get("cluster")
    return Example(
        str(item.get("id", number)),
        prompt,
        tuple(map(str, answers)),
        str(item.get("subject") or ""),
        None if cluster is None else str(cluster),
    )


def _bundled(path: Path) -> list[Example]:
    """Return the bundled questions about passages."""
    passages: dict[str, str] = {}
    return [
        Example(
            question.id,
            extractive_qa.prompt(question),
            question.answers,
            cluster=passages.setdefault(question.context, f"passage {len(passages)}"),
        )
        for question in extractive_qa.load(path)
    ]


def _check_answers(example: Example, config: FreeFormConfig) -> None:
    """Raise UserError for an answer that the rule cannot compare: any text, or none, would be right."""
    for answer in example.answers:
        found, problem = f"the answer {answer[:40]!r} of {example.id!r}", None
        if config.match == "regex":
            import regex

            try:
                regex.compile(answer)
            except (regex.error, RecursionError, OverflowError) as error:
                problem = f"is no regular expression: {error}"
        elif config.match == "number" and last_number(answer) is None:
            problem = "has no number"
        elif config.match in ("normalized", "contains") and not answer_words(answer, UNICODE):
            problem = "has no word"
        if problem is not None:
            raise UserError(
                f"{config.data}: {found} {problem}: change it, or choose another benchmark.free_form.match "
                f"than {config.match}"
            )
