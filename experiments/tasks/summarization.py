"""Summarization: articles with one or several reference summaries, and ROUGE-1, -2 and -L (Lin 2004).

ROUGE is the `rouge-score` package's, in English with its stemmer, elsewhere over the words of `language`; of several
references the best counts, measure by measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.errors import UserError
from runtime_matrix.experiments.tasks import files
from runtime_matrix.experiments.tasks.language import ENGLISH, UnicodeTokenizer

MEASURES = ("rouge1", "rouge2", "rougeL")
STOP = ("\n",)
_WANTED = "JSON lines with a text and one or several summaries"
_TEXT = ("article", "document", "source", "text", "body")
_SUMMARY = ("summary", "summaries", "target", "highlights", "abstract")


@dataclass(frozen=True)
class Article:
    id: str
    text: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """What is kept of one summary."""

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
    means: dict[str, float]  # measure -> F1, 0 to 100
    items: int


def load(path: Path, limit: int | None = None, fields: Mapping[str, str] | None = None) -> list[Article]:
    """Read articles from JSON lines; UserError names the line that has no text or no reference."""
    articles = [
        Article(
            str(item.get("id", item.get("paper_id", number))),
            files.text_of(item, _TEXT, where),
            tuple(files.texts_of(item, _SUMMARY, where)),
        )
        for number, (where, item) in enumerate(files.json_lines(path, _WANTED, fields))
    ]
    if not articles:
        raise UserError(f"{path} holds no article; give {_WANTED}")
    files.check_unique((article.id for article in articles), path)
    return articles[:limit]


def prompt(article: Article) -> str:
    return f"Article: {article.text}\n\nSummary:"


class Rouge:
    """Scores summaries; made once, since the package's scorer takes its time to be made."""

    def __init__(self, language: str) -> None:
        from rouge_score.rouge_scorer import RougeScorer

        tokenizer = None if language == ENGLISH else UnicodeTokenizer()
        self._scorer: Any = RougeScorer(list(MEASURES), use_stemmer=tokenizer is None, tokenizer=tokenizer)

    def __call__(self, summary: str, references: Sequence[str]) -> dict[str, float]:
        """Return F1, 0 to 1, a measure."""
        scores = self._scorer.score_multi(list(references), summary)
        return {measure: float(scores[measure].fmeasure) for measure in MEASURES}


def summarise(scores: Sequence[dict[str, float]]) -> RougeScore:
    columns = {measure: [100.0 * score[measure] for score in scores] for measure in MEASURES}
    means = {measure: sum(column) / len(column) for measure, column in columns.items()}
    return RougeScore(means, len(scores))
