"""Articles as JSON lines or a JSON array, with fields of many names and one or several summaries."""

from __future__ import annotations

from runtime_matrix.experiments.config import data_files
from runtime_matrix.experiments.tasks.formats.articles.article import Article
from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import Format

_TEXT = ("article", "document", "source", "text", "body")
_SUMMARY = ("summary", "summaries", "target", "highlights", "abstract")


def _read(content: Content) -> list[Article]:
    return [
        Article(
            str(item.get("id", item.get("paper_id", number))),
            data_files.text_of(item, _TEXT, where),
            tuple(data_files.texts_of(item, _SUMMARY, where)),
        )
        for number, (where, item) in enumerate(content.items())
    ]


FORMAT = Format("plain", "JSON of articles", lambda content: not content.is_folder, _read, is_general=True)
