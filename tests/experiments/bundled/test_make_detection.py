"""The committed responses for `detection` are those of the script and of the bundled model."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from runtime_matrix.experiments.bundled.make_detection import FILE, answers, lines
from runtime_matrix.experiments.bundled.texts.responses import Prompted, prompted
from runtime_matrix.experiments.bundled.texts.world import build_world
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.tasks.detection_data import load

EVERY = 24  # one of so many questions is answered again


@pytest.fixture(scope="module")
def asked() -> list[Prompted]:
    return list(prompted(build_world()))


@pytest.fixture(scope="module")
def committed() -> list[JsonObject]:
    return [json.loads(line) for line in FILE.read_text().splitlines()]


def test_questions_and_labels_are_those_of_the_script(asked: list[Prompted], committed: list[JsonObject]) -> None:
    responses = {line["id"]: line["response"] for line in committed}
    given = [responses.get(f"response-{number}", "") for number in range(len(asked))]
    assert list(lines(asked, given)) == committed
    assert all(one.given in (None, text) for one, text in zip(asked, given, strict=True))


def test_the_model_gives_the_committed_answers(asked: list[Prompted], committed: list[JsonObject]) -> None:
    some = [(number, one) for number, one in enumerate(asked) if number % EVERY == 0]
    responses = {line["id"]: line["response"] for line in committed}
    assert answers([one for _, one in some]) == [responses.get(f"response-{number}", "") for number, _ in some]


def test_about_half_are_unsupported_for_each_reason(committed: list[JsonObject]) -> None:
    reasons = Counter(label["label_type"] for line in committed for label in line["labels"])
    assert 0.4 < sum(reasons.values()) / len(committed) < 0.6
    assert min(reasons[reason] for reason in ("wrong answer", "not in the passage", "swapped value")) >= 20
    assert FILE.stat().st_size < 300_000
    found = load(FILE, None, None, None)
    assert len(found.responses) == len(committed)
    assert not found.left_out
    contexts = {response.prompt[slice(*response.context)] for response in found.responses}
    assert contexts == {line["context"] for line in committed}
