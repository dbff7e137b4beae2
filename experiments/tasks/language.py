"""Splits answers into words before comparison: as SQuAD and ROUGE do for English, by Unicode for other languages.

Other languages have no dropped articles and no stemming. Punctuation is Unicode's, and each Chinese or Japanese
character is a word, as in MLQA's evaluation (Lewis et al. 2020, arXiv 1910.07475).
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable

ENGLISH, UNICODE = "english", "unicode"
VIETNAMESE, CHINESE = "vi", "zh"  # as `unicode`; in Vietnamese, `_` joins the syllables of a word-segmented text
LANGUAGES = ("auto", ENGLISH, UNICODE, VIETNAMESE, CHINESE)
_FOREIGN_SHARE = 0.005  # of the letters; English texts have fewer non-ASCII letters, mostly in names
_SEGMENTED = re.compile(r"(?<=[^\W_])_(?=[^\W_])")
_PUNCTUATION = set(string.punctuation)
_OWN_WORDS = re.compile(r"([぀-ヿ㐀-䶿一-鿿豈-﫿\U00020000-\U0003134f])")


def chosen(language: str, references: Iterable[str]) -> str:
    """Return `english` or `unicode`; `auto` is English if nearly all letters of the references are ASCII."""
    if language != "auto":
        return language
    letters = foreign = 0
    for text in references:
        letters += sum(map(str.isalpha, text))
        foreign += sum(character.isalpha() and not character.isascii() for character in text)
    return UNICODE if foreign > _FOREIGN_SHARE * letters else ENGLISH


def answer_words(text: str, language: str) -> list[str]:
    """Return the words of a short answer: lower-cased, without punctuation and, in English, without articles."""
    text = unicodedata.normalize("NFC", text).lower()
    if language == ENGLISH:
        unpunctuated = "".join(character for character in text if character not in _PUNCTUATION)
        return re.sub(r"\b(a|an|the)\b", " ", unpunctuated).split()
    if language == VIETNAMESE:
        text = unsegmented(text)
    return _split("".join("" if _is_punctuation(character) else character for character in text))


def unsegmented(text: str) -> str:
    """Return a word-segmented Vietnamese text with spaces for `_` between letters or digits: "Hà_Nội" is "Hà Nội"."""
    return _SEGMENTED.sub(" ", text)


class UnicodeTokenizer:
    """Tokenizer for `rouge_score`, whose own tokenizer drops all but ASCII."""

    def tokenize(self, text: str) -> list[str]:
        """Return the lower-cased words; `rouge_score` calls this method by name."""
        text = unicodedata.normalize("NFC", text).lower()
        return _split("".join(" " if _is_punctuation(character) else character for character in text))


def _split(text: str) -> list[str]:
    return _OWN_WORDS.sub(r" \1 ", text).split()


def _is_punctuation(character: str) -> bool:
    return character in _PUNCTUATION or unicodedata.category(character).startswith("P")
