"""VietNews (Nguyen et al. 2019): articles of title, abstract and body, word-segmented: "Hà_Nội" is one word.

A folder of text files (.txt.seg), or one of them: its first three paragraphs are title, abstract and body, and captions
of pictures may follow, which are not read. Or JSON with these fields. The abstract is the summary. Syllables are
separated again: models are given text as people write it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.tasks.formats.articles.article import Article
from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import Format, text_field
from runtime_matrix.experiments.tasks.language import unsegmented

TITLE = "VietNews' title, abstract and body"
_PARTS = ("title", "abstract", "body")
_BODIES = ("body", "article")  # the names of the body in JSON
_PARAGRAPHS = re.compile(r"\n[ \t]*\n\s*")
_SEGMENTED = re.compile(r"[^\W\d_]_[^\W\d_]")


def _claims(content: Content) -> bool:
    if content.is_json:
        body = next((content.first[name] for name in _BODIES if name in content.first), None)
        return {"title", "abstract"} <= content.first.keys() and isinstance(body, str) and _is_segmented(body)
    files = _files(content)
    return bool(files) and len(_paragraphs(files[0])) > 1 and _is_segmented(files[0].text)


def _is_segmented(text: str) -> bool:
    return _SEGMENTED.search(text) is not None and not text.isascii()


def _files(content: Content) -> list[Content]:
    return (content.files("*.seg") or content.files("*.txt")) if content.is_folder else [content]


def _paragraphs(file: Content) -> list[str]:
    return [part for part in _PARAGRAPHS.split(file.text.strip()) if part]


def _read(content: Content) -> list[Article]:
    return list(_of_json(content) if content.is_json else _of_files(content))


def _of_files(content: Content) -> Iterator[Article]:
    for file in _files(content):
        paragraphs = _paragraphs(file)
        if len(paragraphs) < len(_PARTS):
            raise UserError(
                f"{file.path}: found {len(paragraphs)} paragraphs; {', '.join(_PARTS)} are needed, with empty lines "
                "between them, as in VietNews"
            )
        _, abstract, body = (unsegmented(" ".join(part.split("\n"))) for part in paragraphs[: len(_PARTS)])
        yield Article(file.path.name.partition(".")[0], body, (abstract,))


def _of_json(content: Content) -> Iterator[Article]:
    for number, (where, item) in enumerate(content.items()):
        body = next((name for name in _BODIES if name in item), _BODIES[0])
        text, abstract = (unsegmented(text_field(item, name, where, TITLE)) for name in (body, "abstract"))
        yield Article(str(item.get("guid", item.get("id", number))), text, (abstract,))


FORMAT = Format("vietnews", TITLE, _claims, _read)
