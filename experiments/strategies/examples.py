"""The examples that a prompt shows: calls of its function and their results. Nothing is ever executed.

Understood are doctest's `>>>`, and of the other notations in HumanEval's and MBPP's prompts `f(x) == y` with its many
arrows and verbs, `For x = 1 the output should be y`, and `Input: … Output: …`.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from runtime_matrix.experiments.strategies.literals import literal_at, value_of

_RESULT = re.compile(
    r"\s*(?:==+>|==+|=>|=|->|➞|→|#\s*returns?\b|#\s*=+>|should\s+return\b|would\s+return\b|returns?\b"
    r"|,?\s+the\s+(?:output|result)\s+(?:should|would|will)\s+be\b)\s*"
)
_AFTER_RESULT = re.compile(r"(?:\s*,\s*f?[\"'].*|\s*[.,;]?\s*(?:#.*|\(.*|(?:and|for|since|because)\b.*|\"\"\"|''')?)$")
_LAST_OF_CHAIN = re.compile(r"[-+*/%\d\s.()]*=\s*(-?\d+(?:\.\d+)?)\s*$")
_DOCTEST = re.compile(  # a source, and the lines up to a blank one
    r"^[ \t]*>>>[ \t]*(.*(?:\n[ \t]*\.\.\..*)*)\n((?:[ \t]*(?!>>>)\S.*(?:\n|$))*)", re.MULTILINE
)
_FOR = re.compile(r"\bFor\s+(?=\w+\s*=)")
_OUTPUT = re.compile(r"\bthe\s+(?:output|result)\s+(?:should|would|will)\s+be\s+")
_INPUT = re.compile(r"\bInputs?\s*:\s*")
_AFTER_INPUT = re.compile(r"\s*Outputs?\s*:\s*")
_NAME = re.compile(r"\s*\w+\s*[=:]\s*")
_SEPARATOR = re.compile(r"[ \t]*(?:,\s*|\n\s*(?!Output)(?=\w+\s*[=:]))")


@dataclass(frozen=True)
class Example:
    """A call of the function and its result, as Python expressions."""

    call: str
    expected: str  # a literal

    @cached_property
    def arguments(self) -> tuple[object, ...] | None:
        """The values of the call's arguments; None unless all are literals without keywords."""
        call = _expression(self.call)
        if not isinstance(call, ast.Call) or call.keywords or not isinstance(call.func, ast.Name):
            return None
        try:
            return tuple(ast.literal_eval(argument) for argument in call.args)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return None

    @property
    def test(self) -> str:
        """The example as an assert."""
        return f"assert {self.call} == {self.expected}"


def examples(prompt: str, entry_point: str) -> list[Example]:
    """Return the examples of a prompt in the order of the text; of two with one call the first."""
    text = _of_function(prompt, entry_point)
    found = [*_doctests(text, entry_point), *_calls(text, entry_point), *_given(text, entry_point)]
    by_call: dict[str, Example] = {}
    for _, example in sorted(found, key=lambda pair: pair[0]):
        by_call.setdefault(example.call, example)
    return _of_one_kind(list(by_call.values()))


def _of_function(prompt: str, entry_point: str) -> str:
    """Return the prompt from the function's own `def` on, where it has one."""
    return prompt[max(0, prompt.rfind(f"def {entry_point}(")) :]


def _doctests(text: str, entry_point: str) -> Iterator[tuple[int, Example]]:
    """Yield what doctest would run, where the result is a literal; a call without one gives None."""
    for match in _DOCTEST.finditer(text):
        call = _expression(re.sub(r"\n[ \t]*\.\.\.", "\n", match[1]))
        told = re.split(r"\"\"\"|'''", match[2])[0].strip()
        if call is None or not _calls_name(call, entry_point):
            continue
        if not told and not isinstance(call, ast.Call):
            continue  # `f(x) == y` is read as a call and its result
        if (value := value_of(told) if told else "None") is not None:
            yield match.start(), Example(ast.unparse(call), value)


def _calls(text: str, entry_point: str) -> Iterator[tuple[int, Example]]:
    """Yield each call with literal arguments that a result follows."""
    for match in re.finditer(rf"(?<![\w.]){re.escape(entry_point)}\s*(?=\()", text):
        if text[: match.start()].endswith("def "):
            continue
        end = literal_at(text, match.end(), is_call=True)
        if end is None:
            continue
        call = _expression(text[match.start() : end])
        result = _RESULT.match(text, end)
        if call is None or result is None or Example(ast.unparse(call), "None").arguments is None:
            continue
        if (value := _result(text, result.end())) is not None:
            yield match.start(), Example(ast.unparse(call), value)


def _given(text: str, entry_point: str) -> Iterator[tuple[int, Example]]:
    """Yield what is told as arguments and an output instead of a call."""
    wanted = _parameters(text)
    for match in (*_FOR.finditer(text), *_INPUT.finditer(text)):
        arguments, end = _arguments(text, match.end())
        line_end = text.find("\n", end) % (len(text) + 1)  # of no line: the text's
        is_input = match.re is _INPUT
        told = _AFTER_INPUT.match(text, end) if is_input else _OUTPUT.search(text, end, line_end)
        if told is None or len(arguments) != wanted:
            continue
        if (value := _result(text, told.end())) is not None:
            yield match.start(), Example(f"{entry_point}({', '.join(arguments)})", value)


def _arguments(text: str, at: int) -> tuple[list[str], int]:
    """Return the literals from here on, each with or without a name, and where they end."""
    arguments: list[str] = []
    while True:
        name = _NAME.match(text, at)
        start = name.end() if name else at
        end = literal_at(text, start)
        value = value_of(text[start:end]) if end is not None else None
        if end is None or value is None:
            return arguments, at
        arguments.append(value)
        separator = _SEPARATOR.match(text, end)
        if separator is None:
            return arguments, end
        at = separator.end()


def _parameters(text: str) -> int:
    """Return how many parameters the function has that the text starts with; 0 if it starts with none."""
    head = re.match(r"def \w+\(.*?\)[^\n]*:[ \t]*\n", text, re.DOTALL)
    tree = _tree(f"{head[0]}    pass") if head else None
    function = tree.body[0] if tree else None
    return len(function.args.args) if isinstance(function, ast.FunctionDef) else 0


def _result(text: str, at: int) -> str | None:
    """Return the literal at the position, as Python writes it; None if something else stands there."""
    end = literal_at(text, at)
    if end is None:
        return None
    rest = text[end:].split("\n")[0]
    if chain := _LAST_OF_CHAIN.match(rest):  # `19 - 5 - 6 = 8`
        return value_of(chain[1])
    return value_of(text[at:end]) if _AFTER_RESULT.match(rest) else None


def _of_one_kind(found: list[Example]) -> list[Example]:
    """Return the examples without those of numbers where others are of lists: `f(1) = 3` then is a recurrence."""
    kinds = {type(ast.literal_eval(example.expected)) for example in found}
    if list in kinds and int in kinds:
        return [example for example in found if isinstance(ast.literal_eval(example.expected), list)]
    return found


def _calls_name(tree: ast.expr, name: str) -> bool:
    return any(isinstance(node, ast.Call) and ast.unparse(node.func) == name for node in ast.walk(tree))


def _expression(source: str) -> ast.expr | None:
    tree = _tree(source)
    statement = tree.body[0] if tree and len(tree.body) == 1 else None
    return statement.value if isinstance(statement, ast.Expr) else None


def _tree(source: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # prompts may have invalid escape sequences
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def as_test(shown: Sequence[Example]) -> str:
    """Return the examples as the test of a program."""
    return "".join(f"{example.test}\n" for example in shown)
