"""Styles of prompts, and which one the rules choose."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.strategies import styles
from runtime_matrix.experiments.strategies.prompt import STRATEGY, PromptConfig
from runtime_matrix.experiments.strategies.strategy import Generate, Request
from tests.experiments.strategies.scripted import PROBLEM, solve, world

CONFIG = PromptConfig(
    plain_samples=2,
    plain_temperature=0.8,
    style="minimal",
    corpus="bundled",
    shots=2,
    infilling_marks=("<PRE>", "<SUF>", "<MID>"),
    beside=True,
)


def asked(style: str, texts: list[str]) -> tuple[str, list[Generate]]:
    log: list[Request] = []
    answer = solve(STRATEGY, replace(CONFIG, style=style), world(texts, log=log))
    return answer.text, [request for request in log if isinstance(request, Generate)]


def test_minimal_is_the_problem_itself() -> None:
    text, (request,) = asked("minimal", ["    return x\n"])
    assert (text, request.prompt, request.turn) == ("    return x\n", PROBLEM.prompt, "")


def test_few_shot_tells_the_same_solved_problems_before_each() -> None:
    _, (request,) = asked("few_shot", ["text"])
    assert request.prompt.count("def ") == 3
    assert request.prompt.endswith(PROBLEM.prompt)


def test_a_thought_is_part_of_the_program() -> None:
    text, (request,) = asked("chain_of_thought", ["    # It is doubled.\n    return 2 * x\n"])
    assert request.prompt == f"{PROBLEM.prompt}    # Let's think step by step.\n"
    assert text == "    # Let's think step by step.\n    # It is doubled.\n    return 2 * x\n"


def test_infilling_has_the_examples_behind_the_function() -> None:
    _, (request,) = asked("infilling", ["text"])
    assert request.prompt == f"<PRE>{PROBLEM.prompt}<SUF>\n\nassert double(2) == 4\n<MID>"


def test_a_plan_is_written_first_and_ends_where_its_comments_end() -> None:
    text, (plan, main) = asked("decomposition", [" Take x.\n    # 2. Double it.\n    return 0\n", "    return 2 * x\n"])
    assert plan.prompt == f"{PROBLEM.prompt}    # Plan:\n    # 1."
    told = "    # Plan:\n    # 1. Take x.\n    # 2. Double it.\n"
    assert main.prompt == PROBLEM.prompt + told
    assert text == f"{told}    return 2 * x\n"


@pytest.mark.parametrize(
    ("docstring", "style"),
    [
        ("Double it.", "minimal"),
        ("Find the shortest path, then add its length, then return it.", "chain_of_thought"),
        ("Take the letters, then sort them, then return them.", "few_shot"),
        ("Take it, then turn it, then turn it again, then return it.", "infilling"),
        ("One line.\n    Another.\n    A third.\n    A fourth.", "infilling"),
    ],
)
def test_rules(docstring: str, style: str) -> None:
    problem = replace(PROBLEM, prompt=f'def double(x):\n    """{docstring}"""\n')
    assert styles.choose(problem) == style
    shown = f'def double(x):\n    """{docstring}\n\n    >>> double([1])\n    [1, 1]\n    """\n'
    assert styles.choose(replace(problem, prompt=shown)) == style  # examples do not count


def test_auto_stands_beside_each_fixed_style() -> None:
    texts = ["minimal", "few", "thought", "infilled", " plan", "planned"]
    answer = solve(STRATEGY, replace(CONFIG, style="auto"), world(texts))
    assert answer.text == "minimal"
    assert list(answer.stages) == list(styles.FIXED)
    assert answer.stages["infilling"] == "infilled"
    assert answer.figures["chose_minimal"] == 1.0
    assert sum(answer.figures.values()) == 1.0


def test_auto_alone_asks_once() -> None:
    log: list[Request] = []
    answer = solve(STRATEGY, replace(CONFIG, style="auto", beside=False), world(["text"], log=log))
    assert (len(log), answer.text) == (1, "text")


def test_marks_that_are_not_three_are_refused() -> None:
    with pytest.raises(UserError, match="must be three"):
        STRATEGY.check(replace(CONFIG, infilling_marks=("<PRE>",)))


def test_a_missing_corpus_is_refused_before_the_run() -> None:
    with pytest.raises(UserError, match="cannot be read"):
        STRATEGY.prepare(replace(CONFIG, style="few_shot", corpus="missing.jsonl"), [PROBLEM])
    STRATEGY.prepare(replace(CONFIG, corpus="missing.jsonl"), [PROBLEM])  # of no use to minimal
