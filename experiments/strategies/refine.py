"""Rounds of repair: the model sees its program with a call that fails, and writes another."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.validate import among, least
from runtime_matrix.experiments.sandbox.outputs import Output, Outputs
from runtime_matrix.experiments.strategies.examples import Example
from runtime_matrix.experiments.strategies.forms import repair_prompt, without_doctest
from runtime_matrix.experiments.strategies.strategy import (
    Answer,
    Checked,
    Steps,
    Strategy,
    StrategyConfig,
    Visible,
    execute,
    generate,
    judge_hidden,
    run_tests,
)

_MOST_ROUNDS = 3  # a prompt tells the last try only, and further rounds gain next to nothing (Chen et al. 2023)
_MOST_TOLD = 160  # characters of a value: an error line is not to fill the prompt


@dataclass(frozen=True, kw_only=True)
class RefineConfig(StrategyConfig):
    """Options of `refine`. `feedback` is from the visible tests or, as a leak, from the hidden ones.

    The prompt of a repair keeps the `examples`, or leaves them out. Without them it is another prompt too, whose effect
    is then part of the gain.
    """

    rounds: int = least(1)
    feedback: str = among("visible", "hidden")
    examples: str = among("keep", "leave_out")


class Refine(Strategy[RefineConfig]):
    """Repairs the greedy text until it passes the visible tests, or the rounds are over; the last text is the answer.

    A problem without visible tests is answered greedily.
    """

    name = "refine"
    about = (
        "Rounds of repair by the error of a failing visible test (Chen et al. 2023, arXiv 2304.05128; Shinn et al. "
        "2023, arXiv 2303.11366)."
    )
    Config = RefineConfig

    @override
    def check(self, config: RefineConfig) -> None:
        if config.rounds > _MOST_ROUNDS:
            raise UserError(f"strategy.rounds={config.rounds} is more than {_MOST_ROUNDS}: lower it")

    @override
    def needs_visible_tests(self, config: RefineConfig) -> bool:
        return config.feedback == "visible"

    @override
    def leaks(self, config: RefineConfig) -> str | None:
        return "repaired by errors of the hidden tests" if config.feedback == "hidden" else None

    @override
    def solve(self, problem: Visible, config: RefineConfig, seed: int) -> Steps[Answer]:
        (greedy,) = yield from generate(problem)
        texts = [greedy.text]
        failures = 0
        for number in range(config.rounds):
            failure = yield from _failure(problem, texts[-1], config.feedback)
            if failure is None:
                break
            failures += 1
            prompt = without_doctest(problem.prompt) if config.examples == "leave_out" else problem.prompt
            (text,) = yield from generate(
                problem, repair_prompt(prompt, texts[-1], failure), turn=f"refine {number + 1}"
            )
            if text.text == texts[-1]:
                break  # the next prompt would be the same, and so would its answer
            texts.append(text.text)
        stages = {f"round {number}": texts[min(number, len(texts) - 1)] for number in range(config.rounds + 1)}
        figures = {"repairs": float(failures), "changed": float(texts[-1].strip() != texts[0].strip())}
        return Answer(texts[-1], tuple(texts), stages, figures=figures)


STRATEGY = Refine()


def _failure(problem: Visible, text: str, feedback: str) -> Steps[str | None]:
    """Return the line that tells what fails; None if nothing does, or nothing is known."""
    if feedback == "hidden":
        checked = yield from judge_hidden(text)
        return None if checked.passed else f"{problem.entry_point}: {_told(checked.reason or checked.status)}"
    if not problem.examples:
        return None
    (checked,) = yield from run_tests([text], [example.test for example in problem.examples])
    if checked.passed:
        return None
    known = [example for example in problem.examples if example.arguments is not None]
    if not known:
        return _unexplained(problem.examples[0], checked)
    (outputs,) = yield from execute([text], [example.arguments or () for example in known])
    return _first_failure(known, outputs) or _unexplained(problem.examples[0], checked)


def _first_failure(examples: list[Example], outputs: Outputs) -> str | None:
    """Return the first example whose output is another; None if all are as expected."""
    for number, example in enumerate(examples):
        if number >= len(outputs.outputs):
            return _line(example, outputs.reason or outputs.status)
        output = outputs.outputs[number]
        if not is_expected(output, example):
            return _line(example, output.text if output.is_error else repr(output.value))
    return None


def is_expected(output: Output, example: Example) -> bool:
    """Return whether an output is the example's result, as `==` compares them."""
    return not output.is_error and bool(output.value == ast.literal_eval(example.expected))


def _unexplained(example: Example, checked: Checked) -> str:
    """Return the line of a test that fails in another way than by its output, such as `round(f(x), 2)`."""
    return _line(example, checked.reason or checked.status)


def _line(example: Example, got: str) -> str:
    return f"{_told(example.call)}: expected {_told(example.expected)}, got {_told(got)}"


def _told(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MOST_TOLD else f"{line[:_MOST_TOLD]}…"
