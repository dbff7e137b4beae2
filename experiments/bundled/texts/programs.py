"""Forms around a function that techniques for better answers need: examples, a repair, asserts, solved problems.

All are made of the problems of `functions`, none of which is held out. Only what follows a prompt is learned.
"""

import ast
import random
from collections.abc import Callable

from runtime_matrix.experiments.bundled.texts import functions
from runtime_matrix.experiments.bundled.texts.document import Document
from runtime_matrix.experiments.bundled.texts.functions import MOST_STEPS, Problem

EXAMPLES = 2  # calls that a docstring shows, or asserts that follow it
SOLVED_PROBLEMS = 400  # that a benchmark's problem may be told beside
MOST_TOLD = 24  # characters of a call's argument or result: a window holds few tokens


def with_examples(rng: random.Random) -> Document:
    """Write a function whose docstring shows calls, as doctest writes them."""
    problem, told = _telling(rng)
    return Document(problem.solution, shown(problem, told))


def repaired(rng: random.Random) -> Document:
    """Write a wrong program, a call that fails with its error, and the program as it ought to be."""
    problem, _ = _telling(rng)
    wrong = functions.damaged(problem, rng)
    while (failure := first_failure(problem, wrong)) is None:
        problem, _ = _telling(rng)
        wrong = functions.damaged(problem, rng)
    return Document(problem.solution, repair_prompt(problem, wrong, failure))


def asserts(rng: random.Random) -> Document:
    """Write a function's docstring and asserts that its solution passes."""
    problem, told = _telling(rng)
    lines = [f"assert {problem.name}({argument!r}) == {result!r}" for argument, result in told]
    return Document("".join(f"{line}\n" for line in lines), asserts_prompt(problem))


def solved_before(rng: random.Random) -> Document:
    """Write one or two solved problems, and another one."""
    problems = [kept(rng, rng.randint(1, 3)) for _ in range(rng.randint(2, 3))]
    *solved, last = problems
    return Document(last.solution, "".join(f"{one.prompt}{one.solution}\n" for one in solved) + last.prompt)


def solved(seed: int) -> list[Problem]:
    """Draw problems that may be told before a benchmark's: none of its chains is among them."""
    rng = random.Random(f"{seed}/solved problems")
    drawn: dict[str, Problem] = {}
    while len(drawn) < SOLVED_PROBLEMS:
        problem = kept(rng, rng.randint(1, 3))
        drawn.setdefault(problem.chain, problem)
    return list(drawn.values())


def shown(problem: Problem, told: list[tuple[object, object]]) -> str:
    """Return the prompt with calls and their results in the docstring."""
    head, _, docstring = problem.prompt.partition("\n")
    body = docstring.strip().strip('"')
    calls = "".join(f"    >>> {problem.name}({argument!r})\n    {result!r}\n" for argument, result in told)
    return f'{head}\n    """{body}\n\n{calls}    """\n'


def repair_prompt(problem: Problem, wrong: str, failure: str) -> str:
    """Return what asks for a repair: the program, its failing call with the error, and the problem again."""
    return f"{problem.prompt}{wrong}\n# {failure}\n{problem.prompt}"


def asserts_prompt(problem: Problem) -> str:
    """Return the prompt behind which a model writes asserts for a problem."""
    return f"{problem.prompt}    pass\n\n# tests\n"


def holds(problem: Problem, line: str) -> bool:
    """Return whether an assert of a call with literals is true of the problem's solution; False for any other line.

    What a model wrote is parsed and never run.
    """
    try:
        test = ast.parse(line).body[0]
        assert isinstance(test, ast.Assert)
        compared = test.test
        assert isinstance(compared, ast.Compare)
        call = compared.left
        assert isinstance(call, ast.Call)
        argument, result = ast.literal_eval(call.args[0]), ast.literal_eval(compared.comparators[0])
        return bool(_function(problem, problem.solution)(argument) == result)
    except Exception:  # not such a line, or an argument that the function does not take
        return False


def _function(problem: Problem, body: str) -> Callable[[object], object]:
    namespace: dict[str, object] = {}
    exec(problem.prompt + body, namespace)  # ours: made of the steps of `functions`
    function = namespace[problem.name]
    assert callable(function)
    return function


def first_failure(problem: Problem, body: str) -> str | None:
    """Return the first failing call with what was expected and found, or None where the body passes."""
    function = _function(problem, body)
    for argument, result in problem.checks:
        try:
            given = repr(function(argument))
        except Exception as error:  # a damaged program fails as it may
            given = type(error).__name__
        if given != repr(result) and len(repr(argument)) <= MOST_TOLD and len(given) + len(repr(result)) <= MOST_TOLD:
            return f"{problem.name}({argument!r}): expected {result!r}, got {given}"
    return None


def kept(rng: random.Random, steps: int) -> Problem:
    """Draw a problem that no benchmark holds."""
    problem = functions.draw(rng, steps)
    while problem.is_held_out:
        problem = functions.draw(rng, steps)
    return problem


def _telling(rng: random.Random) -> tuple[Problem, list[tuple[object, object]]]:
    """Draw a problem and calls of it that are short enough to be told."""
    while True:
        problem = kept(rng, rng.randint(1, MOST_STEPS))
        short = [pair for pair in problem.checks if max(len(repr(part)) for part in pair) <= MOST_TOLD]
        if len(short) >= EXAMPLES:
            return problem, rng.sample(short, EXAMPLES)
