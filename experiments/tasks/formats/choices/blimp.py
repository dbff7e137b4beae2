"""BLiMP (Warstadt et al. 2020, arXiv 1912.00582): pairs of an acceptable and an unacceptable sentence.

A file of a paradigm, or a folder of them. The subject is the phenomenon, and whole sentences are scored.
"""

from __future__ import annotations

from runtime_matrix.experiments.tasks.formats.choices.question import Question, ReadQuestions, grouped
from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import Format, text_field

TITLE = "BLiMP's JSON lines"
_SENTENCES = ("sentence_good", "sentence_bad")


def _claims(content: Content) -> bool:
    files = _files(content)
    return bool(files) and not set(_SENTENCES).isdisjoint(files[0].first)


def _files(content: Content) -> list[Content]:
    return content.files("*.jsonl") if content.is_folder else [content]


def _read(content: Content) -> ReadQuestions:
    pairs = []
    for file in _files(content):
        for number, (where, item) in enumerate(file.items()):
            paradigm = str(item.get("UID") or file.path.stem)
            phenomenon = item.get("linguistics_term") or item.get("linguistic_term") or paradigm
            name = f"{paradigm}-{item.get('pairID', number)}"
            sentences = tuple(text_field(item, sentence, where, TITLE) for sentence in _SENTENCES)
            pairs.append(Question(name, str(phenomenon), "", sentences, answer=0))
    return ReadQuestions(grouped(pairs), normalise="none", is_sentences=True)


FORMAT = Format("blimp", TITLE, _claims, _read)
