"""Solved problems that are like a given one, by BM25 over their prompts, without those that would give it away."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.problems.loading import Problem, load
from runtime_matrix.experiments.strategies.examples import examples
from runtime_matrix.experiments.strategies.strategy import Solved, Visible

ALIKE = 0.95  # share of equal words in their order, from which on two prompts are one problem in other words
_BUNDLED = Path(__file__).parents[1] / "bundled" / "data" / "solved.jsonl"
_DOCSTRING = re.compile(r"(?:\"\"\"|''')(.*?)(?:\"\"\"|''')", re.DOTALL)


@dataclass(frozen=True)
class Neighbours:
    """The solved problems nearest to a problem, the nearest first."""

    problems: tuple[Solved, ...]
    dropped: int  # nearer ones that would have given the problem away


@dataclass(frozen=True)
class _Known:
    """A solved problem, and what it is recognised by."""

    problem: Solved
    words: list[str]  # of its prompt
    marks: frozenset[str]


class Retriever:
    """Ranks solved problems by BM25 (Robertson and Zaragoza 2009) of the words of their prompts."""

    def __init__(self, problems: Sequence[Problem]):
        try:
            import bm25s
        except ImportError as error:
            raise UserError("strategy=retrieve needs bm25s: pip install 'runtime-matrix[strategies]'") from error
        self._known = [
            _Known(
                Solved(problem.id, problem.prompt, problem.reference.replace("\r\n", "\n")),
                _words(problem.prompt),
                _marks(problem.prompt, problem.entry_point, problem.head),
            )
            for problem in problems
            if problem.reference is not None
        ]
        self._ranking: Any = bm25s.BM25()
        self._ranking.index([known.words for known in self._known], show_progress=False)

    def contained(self, problems: Sequence[Visible]) -> list[str]:
        """Return the ids of the problems that are among the solved ones."""
        marks = frozenset[str]().union(*(known.marks for known in self._known))
        return [problem.id for problem in problems if _marks(problem.prompt, problem.entry_point, problem.head) & marks]

    def neighbours(self, problem: Visible, count: int) -> Neighbours:
        """Return the `count` nearest solved problems, other than the problem itself or one almost equal to it."""
        scores = self._ranking.get_scores(_words(problem.prompt))
        ranked = sorted(range(len(self._known)), key=lambda index: (-scores[index], index))
        return self._allowed(ranked, problem, count)

    def first(self, problem: Visible, count: int) -> tuple[Solved, ...]:
        """Return the first `count` solved problems, the same for all problems that they do not give away."""
        return self._allowed(range(len(self._known)), problem, count).problems

    def _allowed(self, ranked: Sequence[int], problem: Visible, count: int) -> Neighbours:
        words = _words(problem.prompt)
        allowed: list[Solved] = []
        dropped = 0
        for index in ranked:
            if len(allowed) == count:
                break
            if self._gives_away(self._known[index], problem, words):
                dropped += 1
            else:
                allowed.append(self._known[index].problem)
        return Neighbours(tuple(allowed), dropped)

    def _gives_away(self, known: _Known, problem: Visible, words: list[str]) -> bool:
        if known.marks & _marks(problem.prompt, problem.entry_point, problem.head):
            return True
        return difflib.SequenceMatcher(None, known.words, words, autojunk=False).ratio() >= ALIKE


@lru_cache(maxsize=2)
def retriever(corpus: str) -> Retriever:
    """Return the retriever of a file in HumanEval's or MBPP's format, or of the bundled one; UserError without one."""
    path = _BUNDLED if corpus == "bundled" else Path(corpus).expanduser()
    problems = [problem for problem in load(path) if problem.reference is not None]
    if not problems:
        raise UserError(f"{path} has no solutions (canonical_solution, or code); give solved problems")
    return Retriever(problems)


def _words(prompt: str) -> list[str]:
    return re.findall(r"[a-z]+|\d+|[^\s\w]", prompt.lower())


def _marks(prompt: str, entry_point: str, head: str) -> frozenset[str]:
    """Return what only one problem has: its prompt, its name with its docstring, and its examples together."""
    marks = {"prompt " + " ".join(prompt.split())}
    docstrings = _DOCSTRING.findall(prompt[max(0, prompt.rfind(f"def {entry_point}(")) :])
    if head and docstrings:
        told = docstrings[0].partition(">>>")[0]  # examples may be shown or not
        marks.add(f"docstring {entry_point} {' '.join(told.split())}")
    shown = examples(prompt, entry_point)
    if len(shown) > 1:  # one may be of two problems: f([]) == []
        marks.add("examples " + " ".join(sorted(example.test for example in shown)))
    return frozenset(marks)
