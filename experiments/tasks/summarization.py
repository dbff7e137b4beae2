"""Summarization: articles with one or several reference summaries, and ROUGE-1, -2 and -L (Lin 2004).

ROUGE comes from the `rouge-score` package: with its stemmer for English, otherwise over the words of `language.py`. Of
several references, the best counts for each measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from runtime_matrix.experiments.config import data_files
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.validate import among, least
from runtime_matrix.experiments.evaluation.requests import Decoding, TextPrompt
from runtime_matrix.experiments.records.metric import Metric, figure, hidden, with_error
from runtime_matrix.experiments.statistics.descriptive import percent_standard_error
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.formats.articles.article import WANTED, Article
from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import check_name
from runtime_matrix.experiments.tasks.formats.format import chosen as chosen_format
from runtime_matrix.experiments.tasks.judge_metrics import judge_metrics
from runtime_matrix.experiments.tasks.language import ENGLISH, LANGUAGES, UnicodeTokenizer, chosen
from runtime_matrix.experiments.tasks.sampling import SampleOptions, sampled
from runtime_matrix.experiments.tasks.task import QualityTask, Rubric, Score, Texts, rows_per_forward, same_texts

MEASURES = ("rouge1", "rouge2", "rougeL")
STOP = ("\n",)
_KIND = "articles"
_SCORE = Score(metric="rouge_l", prefix="rouge", noun="summaries", item_field="rougeL", scale=100.0, has_texts=True)


@dataclass(frozen=True, kw_only=True)
class SummarizationConfig(SampleOptions):
    """Options of `summarization`; `limit` is in articles."""

    data: str
    fields: dict[str, str] | None
    max_new_tokens: int = least(1)
    language: str = among(*LANGUAGES)
    limit: int | None = least(1)
    format: str | None = None  # by content


class Summarization(QualityTask[SummarizationConfig]):
    """Summarizes articles by greedy decoding."""

    name = "summarization"
    title = "summarization"
    data = "JSON lines or arrays, one or several references; VietNews as published"
    measures = "ROUGE-1, -2, -L"
    position = 80
    Config = SummarizationConfig
    bundled = "summarization.jsonl"
    score = _SCORE
    rubric = Rubric(references="references", is_right=None)
    metrics = (
        Metric(
            key="rouge_l",
            title="ROUGE-L",
            rank=2,
            better="high",
            display=with_error(1),
            read=figure("rougeL"),
            error="rougeL_standard_error",
            trend="ROUGE-L",
            smallest_step=0.005,
            about="ROUGE-L F1 of summaries, 0 to 100; ± one standard error.",
        ),
        hidden("rouge_1", figure("rouge1")),
        hidden("rouge_2", figure("rouge2")),
        same_texts(_SCORE, "same summaries", "the summaries"),
        rows_per_forward("rouge"),
        *judge_metrics(_SCORE, "summaries"),
    )

    @override
    def check(self, config: SummarizationConfig) -> None:
        check_name(_KIND, config.format, self.name)

    @override
    def check_data(self, config: SummarizationConfig) -> None:
        self._articles(config)

    @override
    def texts(self, config: SummarizationConfig) -> Mapping[str, Sequence[Texts]]:
        return {self.name: [(article.text,) for article in self._articles(config)]}

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: SummarizationConfig, point: str) -> None:
        articles = self._articles(config)
        prompts = [TextPrompt(article.id, prompt(article)) for article in articles]
        answers = bench.answers(prompts, Decoding(config.max_new_tokens, STOP))
        language = chosen(config.language, (text for article in articles for text in article.references))
        rouge = Rouge(language)
        items = [
            Item(
                id=article.id,
                prompt=text_prompt.prompt,
                text=generated.text.strip(),
                ids=generated.ids,
                finished_by=generated.finished_by,
                references=article.references,
                **rouge(generated.text.strip(), article.references),
            )
            for article, text_prompt, (generated,) in zip(articles, prompts, answers.texts, strict=True)
        ]
        bench.write_items(entry, items)
        scores = [{measure: float(getattr(item, measure)) for measure in MEASURES} for item in items]
        result = summarise(scores)
        entry.parameters = {"max_new_tokens": config.max_new_tokens, "language": language}
        entry.figures = {
            **result.means,
            **{
                f"{measure}_standard_error": percent_standard_error([score[measure] for score in scores])
                for measure in MEASURES
            },
            "items": result.items,
            "new_tokens": sum(len(item.ids) for item in items),
            **answers.figures,
        }

    def _articles(self, config: SummarizationConfig) -> list[Article]:
        return sampled(load(self.path(config), config.limit, config.fields, config.format), config, self.name)


TASK = Summarization()


@dataclass(frozen=True)
class Item:
    """One line of the items file: a summary and its scores."""

    id: str
    prompt: str
    text: str
    ids: tuple[int, ...]  # tokens of the text
    finished_by: str
    references: tuple[str, ...]
    rouge1: float  # F1, 0 to 1
    rouge2: float
    rougeL: float


@dataclass(frozen=True)
class RougeScore:
    """The means over all articles."""

    means: dict[str, float]  # measure -> F1, 0 to 100
    items: int


def load(
    path: Path, limit: int | None = None, fields: Mapping[str, str] | None = None, format_name: str | None = None
) -> list[Article]:
    """Read articles in any known format; UserError gives the place without a text or a reference."""
    content = Content(path, WANTED, fields)
    articles: list[Article] = chosen_format(_KIND, content, format_name, "summarization").read(content)
    if not articles:
        raise UserError(f"{path} holds no article; give {WANTED}")
    data_files.check_unique((article.id for article in articles), path)
    return articles[:limit]


def prompt(article: Article) -> str:
    """Return the zero-shot prompt; the summary follows it."""
    return f"Article: {article.text}\n\nSummary:"


class Rouge:
    """Scores summaries. Create it once: constructing the package's scorer is slow."""

    def __init__(self, language: str) -> None:
        from rouge_score.rouge_scorer import RougeScorer

        tokenizer = None if language == ENGLISH else UnicodeTokenizer()
        self._scorer: Any = RougeScorer(list(MEASURES), use_stemmer=tokenizer is None, tokenizer=tokenizer)

    def __call__(self, summary: str, references: Sequence[str]) -> dict[str, float]:
        """Return F1 per measure, 0 to 1."""
        scores = self._scorer.score_multi(list(references), summary)
        return {measure: float(scores[measure].fmeasure) for measure in MEASURES}


def summarise(scores: Sequence[dict[str, float]]) -> RougeScore:
    """Return the means, 0 to 100, of one dictionary (measure to F1, 0 to 1) per summary."""
    columns = {measure: [100.0 * score[measure] for score in scores] for measure in MEASURES}
    means = {measure: sum(column) / len(column) for measure, column in columns.items()}
    return RougeScore(means, len(scores))
