"""Solved problems like the given one, told before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.validate import among, least
from runtime_matrix.experiments.strategies.forms import solved_before
from runtime_matrix.experiments.strategies.retrieval import retriever
from runtime_matrix.experiments.strategies.strategy import (
    Answer,
    Steps,
    Strategy,
    StrategyConfig,
    Visible,
    generate,
)


@dataclass(frozen=True, kw_only=True)
class RetrieveConfig(StrategyConfig):
    """Options of `retrieve`: `contained` test problems in the corpus are refused, or dropped as neighbours."""

    corpus: str
    neighbours: int = least(1)
    contained: str = among("refuse", "drop")


class Retrieve(Strategy[RetrieveConfig]):
    """Answers greedily after the nearest solved problems; the nearest stands last.

    `dropped_neighbours` counts solved problems per problem that were the problem itself or almost equal to it.
    """

    name = "retrieve"
    about = "The nearest solved problems before the prompt (BM25; Parvez et al. 2021, arXiv 2108.11601)."
    Config = RetrieveConfig

    @override
    def prepare(self, config: RetrieveConfig, problems: Sequence[Visible]) -> None:
        contained = retriever(config.corpus).contained(problems)
        if contained and config.contained == "refuse":
            raise UserError(
                f"strategy.corpus={config.corpus} contains {len(contained)} of the test problems, the first is "
                f"{contained[0]!r}: give another corpus, or set strategy.contained=drop"
            )

    @override
    def solve(self, problem: Visible, config: RetrieveConfig, seed: int) -> Steps[Answer]:
        found = retriever(config.corpus).neighbours(problem, config.neighbours)
        prompt = solved_before(problem, found.problems[::-1])
        (text,) = yield from generate(problem, prompt, turn="retrieve")
        figures = {
            "neighbours": float(len(found.problems)),
            "dropped_neighbours": float(found.dropped),
            "added_characters": float(len(prompt) - len(problem.prompt)),
        }
        return Answer(text.text, figures=figures)


STRATEGY = Retrieve()
