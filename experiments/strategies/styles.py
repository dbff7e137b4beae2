"""Which style of prompt suits a problem: a table of rules on its text, as one would write it down without a model."""

from __future__ import annotations

import re
from collections.abc import Callable

from runtime_matrix.experiments.strategies.forms import without_doctest
from runtime_matrix.experiments.strategies.strategy import Visible

FIXED = ("minimal", "few_shot", "chain_of_thought", "infilling", "decomposition")
_FEW_LINES, _FEW_STEPS = 5, 3
_STEP = re.compile(r"\b(?:then|before that|after that|and|if|otherwise|for each)\b|[.;](?=\s)", re.IGNORECASE)
_ALGORITHM = re.compile(
    r"\b(?:algorithms?|prime|fibonacci|factorial|path|graph|tree|matrix|recursive\w*|minimum|optimal)\b"
)
_COLLECTION = re.compile(r"\b(?:strings?|texts?|words?|letters?|lists?|arrays?|numbers|items|values|data)\b")


def choose(problem: Visible) -> str:
    """Return the style of the first rule that the problem meets."""
    text = _told(problem)
    return next(style for applies, style in RULES if applies(text))


def _told(problem: Visible) -> str:
    """Return the prompt from the function on, without its doctest examples."""
    prompt = without_doctest(problem.prompt)
    return prompt[max(0, prompt.rfind(f"def {problem.entry_point}(")) :]


def lines(text: str) -> int:
    """Return how many lines are not empty, beside those of quotes only."""
    return sum(bool(line.strip(" \t\"'")) for line in text.splitlines())


def steps(text: str) -> int:
    """Return how many steps a description seems to have: its clauses and sentences."""
    return 1 + len(_STEP.findall(text.rstrip("\"' \n.")))


RULES: tuple[tuple[Callable[[str], bool], str], ...] = (
    (lambda text: lines(text) < _FEW_LINES and steps(text) < _FEW_STEPS, "minimal"),
    (lambda text: bool(_ALGORITHM.search(text.lower())), "chain_of_thought"),
    (lambda text: bool(_COLLECTION.search(text.lower())), "few_shot"),
    (lambda text: True, "infilling"),
)
