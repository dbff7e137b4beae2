"""Samples until one passes the visible tests."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.strategies.strategy import (
    Answer,
    Steps,
    Strategy,
    StrategyConfig,
    Visible,
    generate,
    run_tests,
)


@dataclass(frozen=True, kw_only=True)
class FilterConfig(StrategyConfig):
    """Options of `filter`: at most `samples` after the greedy text, `at_once` per turn."""

    samples: int = least(1)
    at_once: int = least(1)
    temperature: float = least(0.01)


class Filter(Strategy[FilterConfig]):
    """Takes the greedy text if it passes the prompt's own examples, else the first sample that does, else the greedy.

    Only a text that passes costs a run of the full suite; `survivors` is the share of problems that have one.
    """

    name = "filter"
    about = "Samples until one passes the prompt's own examples (Li et al. 2022, arXiv 2203.07814, section 4.5)."
    Config = FilterConfig
    needs_examples = True

    @override
    def solve(self, problem: Visible, config: FilterConfig, seed: int) -> Steps[Answer]:
        tests = [example.test for example in problem.examples]
        candidates: list[str] = []
        while len(candidates) <= config.samples:
            if candidates:
                count = min(config.at_once, config.samples + 1 - len(candidates))
                turn = f"filter {len(candidates)}"
                texts = yield from generate(problem, samples=count, temperature=config.temperature, turn=turn)
            else:
                texts = yield from generate(problem)
            if not texts:  # given solutions have run out
                break
            new = [text.text for text in texts]
            candidates += new
            for text, checked in zip(new, (yield from run_tests(new, tests)), strict=True):
                if checked.passed:
                    return Answer(text, tuple(candidates), figures=_figures(candidates, True))
        return Answer(candidates[0], tuple(candidates), figures=_figures(candidates, False))


STRATEGY = Filter()


def _figures(candidates: list[str], survived: bool) -> dict[str, float]:
    return {"survivors": float(survived), "texts": float(len(candidates))}
