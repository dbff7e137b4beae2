"""Helper functions first, then the function that may call them."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.strategies.strategy import Answer, Steps, Strategy, StrategyConfig, Visible, generate

_STOP = ("\nclass ", "\nif ", "\nprint(", "\nassert ", '\n"""')  # not at a further function


@dataclass(frozen=True, kw_only=True)
class DecomposeConfig(StrategyConfig):
    """Options of `decompose`: at most so many `helpers` of those that the model writes are told, and kept."""

    helpers: int = least(1)


class Decompose(Strategy[DecomposeConfig]):
    """Asks for helper functions, then for the function behind those that are valid; the program has both.

    `helpers` are per problem, `called` is the share of problems whose answer calls one.
    """

    name = "decompose"
    about = "Helper functions first, then the main one (Zelikman et al. 2022, arXiv 2212.10561)."
    Config = DecomposeConfig

    @override
    def solve(self, problem: Visible, config: DecomposeConfig, seed: int) -> Steps[Answer]:
        (told,) = yield from generate(problem, helpers_prompt(problem), stop=_STOP, turn="helpers")
        written = functions(f"def {told.text}", problem.entry_point)
        helpers = dict(list(written.items())[: config.helpers])
        if not helpers:
            (text,) = yield from generate(problem)
            return Answer(text.text, figures={"helpers": 0.0, "called": 0.0})
        source = "".join(f"{helper}\n\n\n" for helper in helpers.values())
        (text,) = yield from generate(problem, source + problem.prompt, turn="main")
        calls = any(re.search(rf"\b{name}\(", text.text) for name in helpers)
        # Behind the main function, since a program begins with the head.
        code = f"{text.text.rstrip()}\n\n\n{source}"
        return Answer(code, figures={"helpers": float(len(helpers)), "called": float(calls)})


STRATEGY = Decompose()


def helpers_prompt(problem: Visible) -> str:
    """Return what asks for helper functions: the problem as a comment, and a `def`."""
    comment = "".join(f"# {line}".rstrip() + "\n" for line in problem.prompt.strip().splitlines())
    return f"{comment}\n# Helper functions for {problem.entry_point}:\n\ndef "


def functions(text: str, entry_point: str) -> dict[str, str]:
    """Return the sources of the functions at the beginning of a text by name, without the entry point.

    A function that the text breaks off in is left out, with all that follows it.
    """
    lines = text.splitlines()
    for end in range(len(lines), 0, -1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # texts may have invalid escape sequences
            try:
                tree = ast.parse("\n".join(lines[:end]))
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
        return {
            node.name: ast.unparse(node)
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name != entry_point
        }
    return {}
