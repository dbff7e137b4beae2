"""Prompts with a second part: a failed try, a place for tests, helper functions. In the forms that the bundled model
has learned, where it has learned one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runtime_matrix.experiments.strategies.strategy import Solved, Visible

_DOCTEST = re.compile(r"\n+(?:[ \t]*>>>.*\n(?:[ \t]*(?!>>>|\"\"\"|''')\S.*\n)*)+(?=[ \t]*(?:\"\"\"|''')\s*$)")


def solved_before(problem: Visible, solved: Sequence[Solved]) -> str:
    """Return the prompt behind solved problems."""
    return "".join(f"{known.prompt}{known.solution.rstrip()}\n\n" for known in solved) + problem.prompt


def repair_prompt(prompt: str, wrong: str, failure: str) -> str:
    """Return what asks for a repair: the program, its failing call with the error, and the prompt again."""
    return f"{prompt}{wrong.rstrip()}\n\n# {failure}\n{prompt}"


def asserts_prompt(prompt: str) -> str:
    """Return the prompt behind which a model writes asserts."""
    return f"{prompt}    pass\n\n# tests\n"


def without_doctest(prompt: str) -> str:
    """Return the prompt without the doctest examples at the end of its docstring."""
    found = _DOCTEST.search(prompt)
    if found is None:
        return prompt
    rest = prompt[found.end() :]
    is_one_line = "\n" not in prompt[: found.start()].partition(rest.strip())[2]
    return prompt[: found.start()] + (rest.lstrip() if is_one_line else f"\n{rest}")
