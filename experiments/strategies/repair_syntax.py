"""The greedy text, made to parse."""

from __future__ import annotations

from typing_extensions import override

from runtime_matrix.experiments.strategies.strategy import Answer, Steps, Strategy, StrategyConfig, Visible, generate
from runtime_matrix.experiments.strategies.syntax import is_valid, repaired


class RepairSyntax(Strategy[StrategyConfig]):
    """Repairs a text that is not valid Python behind its prompt, by the parser alone; another stays as it is.

    `invalid` and `repaired` are shares of problems. A repaired text may still fail its tests.
    """

    name = "repair_syntax"
    about = "The greedy text, with what the parser misses put right: fences, indentation, brackets, a broken end."

    @override
    def solve(self, problem: Visible, config: StrategyConfig, seed: int) -> Steps[Answer]:
        (text,) = yield from generate(problem)
        was_valid = is_valid(problem.head + text.text)
        code = repaired(text.text, problem.head)
        figures = {
            "invalid": float(not was_valid),
            "repaired": float(not was_valid and is_valid(problem.head + code)),
        }
        return Answer(code, stages={"before": text.text, "after": code}, figures=figures)


STRATEGY = RepairSyntax()
