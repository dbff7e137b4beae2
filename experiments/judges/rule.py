"""A judge for answers that are known exactly: the words of the answer are those of a reference."""

from __future__ import annotations

import re
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.validate import among
from runtime_matrix.experiments.judges.judge import Knowing, Question

_WORDS = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class RuleConfig:
    """Options of `rule`."""

    match: str = among("words", "exact", "contains")


class Rule(Knowing[RuleConfig]):
    """Compares the answer with the references, without a model."""

    name = "rule"
    about = "The answer equals a reference: no model is asked."
    Config = RuleConfig

    @override
    def score(self, question: Question, config: RuleConfig) -> float | None:
        if not question.references:
            return None
        if config.match == "exact":
            return float(question.answer.strip() in (text.strip() for text in question.references))
        answer, references = _words(question.answer), [_words(text) for text in question.references]
        if config.match == "words":
            return float(answer in references)
        spaced = f" {' '.join(answer)} "
        return float(any(f" {' '.join(words)} " in spaced for words in references))


JUDGE = Rule()


def _words(text: str) -> list[str]:
    return _WORDS.findall(text.casefold())
