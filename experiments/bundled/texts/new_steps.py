"""Functions with steps that no training text of the base has: what the adapter `code_steps` learns.

A chain has at least one new step beside those of `functions`. Chains are kept out of training by their digest.
"""

import random
from dataclasses import replace

from runtime_matrix.experiments.bundled.texts import functions
from runtime_matrix.experiments.bundled.texts.document import Document
from runtime_matrix.experiments.bundled.texts.functions import NUMBERS, TEXT, Problem, steps_of

MOST_STEPS = 3
BENCHMARK_PROBLEMS = 120
NEW_NUMBERS = steps_of(
    """
    swap the two halves | {x}[len({x}) // 2:] + {x}[:len({x}) // 2]
    halve each number | [n // 2 for n in {x}]
    cube each number | [n ** 3 for n in {x}]
    limit each number to {k} | [min(n, {k}) for n in {x}]
    raise each number to {k} at least | [max(n, {k}) for n in {x}]
    put the sum at the end | {x} + [sum({x})]
    take every third number | {x}[::3]
    repeat the list | {x} + {x}
    """
)
NEW_TEXT = steps_of(
    """
    swap the two halves | {x}[len({x}) // 2:] + {x}[:len({x}) // 2]
    put a star between the letters | "*".join({x})
    keep only the vowels | "".join(c for c in {x} if c in "aeiouAEIOU")
    put it in brackets | "[" + {x} + "]"
    add its mirror | {x} + {x}[::-1]
    reverse the order of the words | " ".join({x}.split()[::-1])
    take every third letter | {x}[::3]
    put a line for each space | {x}.replace(" ", "_")
    """
)
DOMAINS = (
    replace(NUMBERS, steps=(*NUMBERS.steps, *3 * NEW_NUMBERS)),
    replace(TEXT, steps=(*TEXT.steps, *2 * NEW_TEXT)),
)
_NEW = {step.say for step in (*NEW_NUMBERS, *NEW_TEXT)}


def code(rng: random.Random) -> Document:
    """Write a function that has a new step; none is held out."""
    problem = _draw(rng, rng.randint(1, MOST_STEPS))
    while problem.is_held_out:
        problem = _draw(rng, rng.randint(1, MOST_STEPS))
    return Document(problem.solution, problem.prompt)


def benchmark(seed: int) -> list[Problem]:
    """Draw problems of two or three steps, one of them new at least, that are kept out of training."""
    rng = random.Random(f"{seed}/benchmark/new steps")
    chosen: dict[str, Problem] = {}
    while len(chosen) < BENCHMARK_PROBLEMS:
        problem = _draw(rng, rng.choice((2, 3)))
        if problem.is_held_out and functions.is_telling(problem):
            chosen[problem.chain] = problem
    return list(chosen.values())


def has_new_step(problem: Problem) -> bool:
    """Return whether a step of the problem is none that the base has learned."""
    return bool(_NEW & set(problem.chain.split(" > ")))


def _draw(rng: random.Random, steps: int) -> Problem:
    problem = functions.draw(rng, steps, DOMAINS)
    while not has_new_step(problem):
        problem = functions.draw(rng, steps, DOMAINS)
    return problem
