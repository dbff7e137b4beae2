"""The text of the bundled judge, and the judge as it is committed."""

from __future__ import annotations

import random

from runtime_matrix.experiments.bundled.texts import judgements
from runtime_matrix.experiments.bundled.texts.passages import slot_of
from runtime_matrix.experiments.bundled.texts.world import build_world
from runtime_matrix.experiments.judges.runtime import BUNDLED_JUDGE
from runtime_matrix.experiments.judges.templates import read_template


def test_half_of_the_answers_are_right_and_said_to_be() -> None:
    world, rng, said = build_world(), random.Random(3), []
    for _ in range(400):
        document = judgements.judged(world, rng, 0.2)
        reference, answer = (
            document.given.rpartition(f"\n{name}: ")[2].partition("\n")[0].lower() for name in ("Reference", "Answer")
        )
        is_same = answer == reference or answer == reference.partition(" ")[2]
        assert document.text == (" right" if is_same else " wrong")
        said.append(is_same)
    assert 160 < sum(said) < 240


def test_its_prompt_is_the_template() -> None:
    values = {"question": "Who?", "reference": "Anna", "answer": "Bert"}
    assert judgements.prompt("Who?", "Anna", "Bert") == read_template("right_or_wrong").prompt(values)


def test_a_question_tells_what_it_asks_for() -> None:
    assert slot_of("On which day did Anna Berg travel?") == "day"
    assert slot_of("Which job did Anna Berg have then?") == "job"


def test_the_judge_is_small_and_whole() -> None:
    sizes = {path.name: path.stat().st_size for path in BUNDLED_JUDGE.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(sizes)
    assert sum(sizes.values()) < 2e6
