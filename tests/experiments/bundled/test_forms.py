"""The document forms that techniques for better answers ask for say what is true, and hold no benchmark."""

from __future__ import annotations

import doctest
import random
import re

import pytest

from runtime_matrix.experiments.bundled.corpus import PROGRAMS, WARM_UP_SHARDS, training_documents
from runtime_matrix.experiments.bundled.texts import functions, programs, questions
from runtime_matrix.experiments.bundled.texts.document import Document
from runtime_matrix.experiments.bundled.texts.world import ADAPTER_SEEDS, World, build_world

COUNT = 60


@pytest.fixture(scope="module")
def world() -> World:
    return build_world()


def documents(form: object) -> list[Document]:
    rng = random.Random(7)
    return [form(rng) for _ in range(COUNT)]  # type: ignore[operator]


def test_the_examples_of_a_docstring_are_what_the_function_gives() -> None:
    for document in documents(programs.with_examples):
        source = document.given + document.text
        namespace: dict[str, object] = {}
        exec(source, namespace)
        name = re.match(r"def (\w+)", source)
        assert name is not None
        (test,) = doctest.DocTestFinder().find(namespace[name[1]], name[1], globs=namespace)
        assert doctest.DocTestRunner(verbose=False).run(test) == (0, programs.EXAMPLES)


def test_asserts_hold_for_the_solution() -> None:
    rng = random.Random(3)
    for _ in range(COUNT):
        state = rng.getstate()
        problem, _ = programs._telling(rng)
        rng.setstate(state)
        document = programs.asserts(rng)
        assert document.given == programs.asserts_prompt(problem)
        exec(f"{problem.prompt}{problem.solution}\n{document.text}", {})


def test_a_repair_follows_a_program_that_fails_as_it_says() -> None:
    for document in documents(programs.repaired):
        wrong, _, rest = document.given.partition("\n# ")
        failure, _, prompt = rest.partition("\n")
        said = re.fullmatch(r"(\w+\(.*\)): expected (.*), got (.*)", failure)
        assert said is not None
        assert wrong.startswith(prompt)
        call, expected, got = said.groups()
        namespace: dict[str, object] = {}
        exec(prompt + document.text, namespace)
        assert repr(eval(call, namespace)) == expected
        exec(wrong, namespace)
        try:
            given = repr(eval(call, namespace))
        except Exception as error:
            given = type(error).__name__
        assert given == got != expected


def test_solved_problems_stand_before_a_new_one() -> None:
    for document in documents(programs.solved_before):
        assert document.given.count("def ") in (2, 3)
        exec(document.given + document.text, {})


def test_a_judged_answer_is_right_or_wrong_as_it_says(world: World) -> None:
    rng, verdicts = random.Random(5), []
    for _ in range(200):
        state = rng.getstate()
        fact = rng.choice(world.quizzed_facts)
        rng.setstate(state)
        document = questions.judged(world, rng)
        answer = document.given.partition("Answer: ")[2].partition("\n")[0]
        assert document.text == (" right" if answer == fact.value else " wrong")
        verdicts.append(document.text)
    assert 70 < verdicts.count(" right") < 130


def test_an_assert_is_judged_by_the_solution_and_never_run(capsys: pytest.CaptureFixture[str]) -> None:
    problem = functions.benchmark(0)[0]
    argument, result = problem.checks[0]
    assert programs.holds(problem, f"assert {problem.name}({argument!r}) == {result!r}")
    assert not programs.holds(problem, f"assert {problem.name}({argument!r}) == {[result]!r}")
    assert not programs.holds(problem, f"assert {problem.name}(print('run')) == {result!r}")
    assert not programs.holds(problem, "assert (")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("form", PROGRAMS)
def test_no_form_holds_a_chain_of_the_benchmark(form: object) -> None:
    held_out = {problem.prompt.partition('"""')[2] for problem in functions.benchmark(0)}
    for document in documents(form):
        assert not any(docstring in document.given + document.text for docstring in held_out)


def test_every_form_is_in_the_training_text(world: World) -> None:
    rng = training_documents(world, 0, WARM_UP_SHARDS)
    given = [next(rng).given for _ in range(600)]
    assert sum("\n# tests\n" in text for text in given) > 5
    assert sum("): expected " in text for text in given) > 5
    assert sum("    >>> " in text for text in given) > 5
    assert sum(text.count("def ") >= 2 and "# " not in text for text in given) > 5
    assert sum("Right or wrong:" in text for text in given) > 10


def test_the_worlds_of_adapters_are_other_worlds(world: World) -> None:
    for seed in ADAPTER_SEEDS:
        other = build_world(seed)
        common = world.values.keys() & other.values.keys()
        same = sum(world.values[key] == other.values[key] for key in common)
        assert same < 0.1 * len(other.values)  # by chance
