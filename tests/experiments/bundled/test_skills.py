"""What the bundled adapters learn: their data is what the script writes, and their text holds none of it."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from runtime_matrix.experiments.bundled.adapter_training import ADAPTERS_DIR, ALPHA, RANK, RECIPES
from runtime_matrix.experiments.bundled.skills import SKILLS
from runtime_matrix.experiments.bundled.texts import functions, new_steps
from runtime_matrix.experiments.config.adapters import bundled_adapters
from runtime_matrix.experiments.problems import loading
from runtime_matrix.experiments.tasks import extractive_qa, questions
from runtime_matrix.runtimes.adapter_files import read_adapter


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def text(name: str, documents: int) -> str:
    written = islice(SKILLS[name].documents(seed=0, shard=1), documents)
    return "\n\n".join(one.given + one.text for one in written)


@pytest.mark.parametrize("name", SKILLS)
def test_committed_data_is_what_the_script_writes(name: str, tmp_path: Path) -> None:
    SKILLS[name].write_data(tmp_path)
    assert files_of(tmp_path) == files_of(ADAPTERS_DIR / name / "data")


def test_each_skill_has_an_adapter_of_its_recipe() -> None:
    assert set(SKILLS) == set(RECIPES) == set(bundled_adapters())
    for name in SKILLS:
        files = read_adapter(ADAPTERS_DIR / name)
        assert (files.base_name, files.rank, files.alpha) == ("bundled", RANK, ALPHA)
        card = (ADAPTERS_DIR / name / "README.md").read_text()
        assert f"{RECIPES[name].steps} steps" in card
        assert "/tmp" not in card + json.dumps(files_of_config(name))


def files_of_config(name: str) -> dict[str, object]:
    config: dict[str, object] = json.loads((ADAPTERS_DIR / name / "adapter_config.json").read_text())
    return config


def test_no_item_of_a_benchmark_occurs_in_the_text() -> None:
    problems = loading.load(ADAPTERS_DIR / "code_steps" / "data" / "code.jsonl")
    steps = text("code_steps", 3000)
    assert len(problems) == new_steps.BENCHMARK_PROBLEMS
    assert not any(problem.prompt.split('"""')[1] in steps for problem in problems)
    asked = extractive_qa.load(ADAPTERS_DIR / "errands" / "data" / "extractive_qa.json")
    errands = text("errands", 3000)
    assert len(asked) >= 200
    assert not any(question.context in errands or question.text in errands for question in asked)
    facts = questions.load(ADAPTERS_DIR / "second_world" / "data", None, shots=1)
    world = text("second_world", 3000)
    assert len(facts.questions) == 240
    assert not any(question.text in world for question in facts.questions)


def test_problems_have_a_step_that_the_base_never_saw_and_true_solutions() -> None:
    known = {step.say for domain in functions.DOMAINS for step in domain.steps}
    for problem in new_steps.benchmark(2)[:30]:
        assert new_steps.has_new_step(problem)
        assert not set(problem.chain.split(" > ")) <= known
        assert len({repr(result) for _, result in problem.checks}) > 2  # the solution runs, and says something
