"""Small Python functions: a docstring that lists steps, and one line of code a step.

A problem is a chain of steps. Chains are kept out of training by their digest, whatever their constants, names and
wording are: a model must have learned the steps, and how a docstring orders them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from runtime_matrix.experiments.bundled.texts import vocabulary
from runtime_matrix.experiments.bundled.texts.document import Document, is_held_out

HELD_OUT_ONE_IN = 6
BENCHMARK_PROBLEMS = 160
MOST_STEPS = 4  # before the end
BENCHMARK_STEPS = (3, 4, 5)  # chains of two steps are solved by any model that learned the steps
NAMES = vocabulary.words(
    "solve, compute, convert, process, handle, change, prepare, make, build, derive, work, transform, answer, treat, "
    "shape, turn, update, refine, reduce, arrange"
)


@dataclass(frozen=True)
class Step:
    """One operation: `say` is a clause of the docstring, `code` an expression over `{x}`; `{k}` is a constant."""

    say: str
    code: str


@dataclass(frozen=True)
class Domain:
    """What functions take: argument names, steps that keep the type, steps that end a function."""

    arguments: tuple[str, ...]
    steps: tuple[Step, ...]
    ends: tuple[Step, ...]
    inputs: tuple[object, ...]


def steps_of(text: str) -> tuple[Step, ...]:
    lines = (line.split("|") for line in text.strip().splitlines())
    return tuple(Step(say.strip(), code.strip()) for say, code in lines)


NUMBERS = Domain(
    ("numbers", "values", "items", "data"),
    steps_of(
        """
        keep the even numbers | [n for n in {x} if n % 2 == 0]
        keep the odd numbers | [n for n in {x} if n % 2 == 1]
        keep the positive numbers | [n for n in {x} if n > 0]
        keep the negative numbers | [n for n in {x} if n < 0]
        keep the numbers above {k} | [n for n in {x} if n > {k}]
        keep the numbers below {k} | [n for n in {x} if n < {k}]
        keep the multiples of {k} | [n for n in {x} if n % {k} == 0]
        double each number | [n * 2 for n in {x}]
        square each number | [n * n for n in {x}]
        add {k} to each number | [n + {k} for n in {x}]
        subtract {k} from each number | [n - {k} for n in {x}]
        multiply each number by {k} | [n * {k} for n in {x}]
        change the sign of each number | [-n for n in {x}]
        take the absolute value of each number | [abs(n) for n in {x}]
        take the remainder of each number by {k} | [n % {k} for n in {x}]
        sort the numbers | sorted({x})
        sort the numbers downwards | sorted({x}, reverse=True)
        reverse the order | {x}[::-1]
        drop the first number | {x}[1:]
        drop the last number | {x}[:-1]
        take the first {k} numbers | {x}[:{k}]
        take the last {k} numbers | {x}[-{k}:]
        take every second number | {x}[::2]
        remove repeated numbers | list(dict.fromkeys({x}))
        """
    ),
    steps_of(
        """
        return the numbers | {x}
        return the sum | sum({x})
        return the largest number or zero | max({x}, default=0)
        return the smallest number or zero | min({x}, default=0)
        return how many there are | len({x})
        return how many different numbers there are | len(set({x}))
        return how often {k} occurs | {x}.count({k})
        return whether {k} occurs | {k} in {x}
        return the sum of the squares | sum(n * n for n in {x})
        """
    ),
    (
        [],
        [4],
        [3, 8, -2, 7, 0, 8],
        [12, 5, 9, -4, 6, 2, 3, 15],
        [-7, -3, 4, 10, 1],
        [6, 6, 2, 9, 5, -1, 7, 2],
        [8, 1, 3, 20, -6, 14],
    ),
)
TEXT = Domain(
    ("text", "word", "line", "name"),
    steps_of(
        """
        make it upper case | {x}.upper()
        make it lower case | {x}.lower()
        swap upper and lower case | {x}.swapcase()
        start each word with a capital | {x}.title()
        reverse the letters | {x}[::-1]
        remove the spaces | {x}.replace(" ", "")
        put a dash for each space | {x}.replace(" ", "-")
        remove the vowels | "".join(c for c in {x} if c not in "aeiouAEIOU")
        keep only the letters | "".join(c for c in {x} if c.isalpha())
        drop the first letter | {x}[1:]
        drop the last letter | {x}[:-1]
        take the first {k} letters | {x}[:{k}]
        take the last {k} letters | {x}[-{k}:]
        take every second letter | {x}[::2]
        sort the letters | "".join(sorted({x}))
        remove repeated letters | "".join(dict.fromkeys({x}))
        repeat it {k} times | {x} * {k}
        double each letter | "".join(c * 2 for c in {x})
        """
    ),
    steps_of(
        """
        return the text | {x}
        return its length | len({x})
        return how many words it has | len({x}.split())
        return the list of words | {x}.split()
        return how many different letters it has | len(set({x}))
        return how many vowels it has | sum(c in "aeiouAEIOU" for c in {x})
        return how many capitals it has | sum(c.isupper() for c in {x})
        return whether it has a space | " " in {x}
        """
    ),
    ("", "Owl", "the old Bridge", "Anna lives here", "BEES and honey", "a b c", "Moon over Millford"),
)
DOMAINS = (NUMBERS, TEXT)


@dataclass(frozen=True)
class Problem:
    """A function to write: the prompt, a solution and the domain of its arguments."""

    name: str
    chain: str  # the steps without their constants: what is held out
    prompt: str
    solution: str
    domain: Domain

    @property
    def is_held_out(self) -> bool:
        """Return whether the training text leaves the problem's chain of steps out."""
        return is_held_out(self.chain, HELD_OUT_ONE_IN)

    @cached_property
    def checks(self) -> list[tuple[object, object]]:
        """Arguments and the results that the solution gives for them."""
        namespace: dict[str, object] = {}
        exec(self.prompt + self.solution, namespace)  # ours: made of the steps above
        function = namespace[self.name]
        assert callable(function)
        return [(argument, function(argument)) for argument in self.domain.inputs]

    @property
    def test(self) -> str:
        """HumanEval's form: a function `check(candidate)`."""
        lines = (f"    assert candidate({argument!r}) == {result!r}" for argument, result in self.checks)
        return "\n".join(["def check(candidate):", *lines, ""])


def code(rng: random.Random) -> Document:
    """Write a document of the training text: a function with its docstring."""
    problem = draw(rng, rng.randint(1, MOST_STEPS))
    while problem.is_held_out:
        problem = draw(rng, rng.randint(1, MOST_STEPS))
    return Document(problem.solution, problem.prompt)


def benchmark(seed: int) -> list[Problem]:
    """Draw problems that are kept out of training; some are a step longer than any there."""
    rng = random.Random(f"{seed}/benchmark/functions")
    chosen: dict[str, Problem] = {}
    while len(chosen) < BENCHMARK_PROBLEMS:
        problem = draw(rng, rng.choice(BENCHMARK_STEPS))
        if problem.is_held_out and is_telling(problem):
            chosen[problem.chain] = problem
    return list(chosen.values())


def draw(rng: random.Random, steps: int, domains: Sequence[Domain] = DOMAINS) -> Problem:
    """Write a function of so many steps and an end, with a docstring that tells them forwards or backwards."""
    domain = rng.choice(domains)
    chain = [*rng.sample(domain.steps, steps), rng.choice(domain.ends)]
    constants = [rng.randint(2, 9) for _ in chain]
    argument, name = rng.choice(domain.arguments), rng.choice(NAMES)
    said = [step.say.format(k=k) for step, k in zip(chain, constants, strict=True)]
    docstring = ", then ".join(said) if rng.random() < 0.5 else ", but before that ".join(reversed(said))
    codes = [step.code.format(x=argument, k=k) for step, k in zip(chain, constants, strict=True)]
    body = [*(f"    {argument} = {line}" for line in codes[:-1]), f"    return {codes[-1]}"]
    prompt = f'def {name}({argument}):\n    """{docstring[0].upper()}{docstring[1:]}."""\n'
    solution = "\n".join(body) + "\n"
    return Problem(name, " > ".join(step.say for step in chain), prompt, solution, domain)


def damaged(problem: Problem, rng: random.Random) -> str:
    """Return the body with one step left out, doubled, or put in the place of another of its domain."""
    lines = problem.solution.splitlines()
    at = rng.randrange(len(lines))
    step = rng.choice(problem.domain.ends if at == len(lines) - 1 else problem.domain.steps)
    argument = problem.prompt.partition("(")[2].partition(")")[0]
    other = step.code.format(x=argument, k=rng.randint(2, 9))
    replaced = f"    return {other}" if at == len(lines) - 1 else f"    {argument} = {other}"
    ways = [[*lines[:at], replaced, *lines[at + 1 :]]]
    if at < len(lines) - 1:
        ways += [lines[:at] + lines[at + 1 :], lines[: at + 1] + lines[at:]]
    return "\n".join(rng.choice(ways)) + "\n"


def is_telling(problem: Problem) -> bool:
    """Return whether the checks have different results: else a constant function could pass."""
    return len({repr(result) for _, result in problem.checks}) > 2
