"""Tests by the same model: the solutions and tests that agree most are believed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.sandbox.outputs import Outputs
from runtime_matrix.experiments.strategies.examples import Example, examples
from runtime_matrix.experiments.strategies.forms import asserts_prompt, without_doctest
from runtime_matrix.experiments.strategies.refine import is_expected
from runtime_matrix.experiments.strategies.strategy import (
    Answer,
    Steps,
    Strategy,
    StrategyConfig,
    Visible,
    execute,
    generate,
)

_STOP = ("\ndef ", "\nclass ", '\n"""', "\n#", "\nprint(")  # not at an assert, as a completion would


@dataclass(frozen=True, kw_only=True)
class CodetConfig(StrategyConfig):
    """Options of `codet`: `test_samples` texts of asserts per problem, of which `tests` different ones count."""

    samples: int = least(2)
    test_samples: int = least(1)
    tests: int = least(1)
    temperature: float = least(0.01)


class Codet(Strategy[CodetConfig]):
    """Takes a sample of the largest agreement: samples that pass the same tests, times the tests that they pass.

    Asserts that are not of a call with literals count as none. A program that ends at a call fails the later ones.
    """

    name = "codet"
    about = "Samples and tests by one model, dual execution agreement (Chen et al. 2022, arXiv 2207.10397)."
    Config = CodetConfig

    @override
    def solve(self, problem: Visible, config: CodetConfig, seed: int) -> Steps[Answer]:
        texts = yield from generate(problem, samples=config.samples, temperature=config.temperature)
        candidates = [text.text for text in texts]
        told = yield from generate(
            problem,
            asserts_prompt(without_doctest(problem.prompt)),
            samples=config.test_samples,
            temperature=config.temperature,
            stop=_STOP,
            turn="codet tests",
        )
        lines = [line for text in told for line in text.text.splitlines() if line.startswith("assert")]
        parsed = [test for line in lines for test in examples(line, problem.entry_point) if test.arguments is not None]
        tests = list(dict.fromkeys(parsed))[: config.tests]
        runs = yield from execute(candidates if tests else [], [test.arguments or () for test in tests])
        passed = [passes(run, tests) for run in runs] or [frozenset()] * len(candidates)
        best, agreeing = most_agreed(passed)
        figures = {
            "written_asserts": float(len(lines)),
            "parsed_asserts": len(parsed) / len(lines) if lines else 0.0,
            "without_tests": float(not tests),
            "agreement": agreeing / len(candidates),
            "passed_tests": len(passed[best]) / len(tests) if tests else 0.0,
        }
        return Answer(candidates[best], tuple(candidates), tests=tuple(test.test for test in tests), figures=figures)


STRATEGY = Codet()


def passes(run: Outputs, tests: Sequence[Example]) -> frozenset[int]:
    """Return the indexes of the tests whose results the program returned."""
    pairs = zip(run.outputs, tests, strict=False)  # a program that ended has fewer outputs
    return frozenset(index for index, (output, test) in enumerate(pairs) if is_expected(output, test))


def most_agreed(passed: Sequence[frozenset[int]]) -> tuple[int, int]:
    """Return the first sample of the set with the highest score, and how many samples the set has."""
    sizes = Counter(passed)
    best = max(range(len(passed)), key=lambda index: sizes[passed[index]] * len(passed[index]))
    return best, sizes[passed[best]]
