"""A sample of items: the same in any order, proportional by subject, and with the standard error that it shows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import pytest

from runtime_matrix.experiments.analysis.paired_outputs import DifferentItems, compare_items
from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.records.item import Item as Answered
from runtime_matrix.experiments.statistics.descriptive import standard_error
from runtime_matrix.experiments.tasks import multiple_choice, questions
from runtime_matrix.experiments.tasks.registry import benchmarks
from runtime_matrix.experiments.tasks.sampling import (
    EmptyPartError,
    Part,
    SampleOptions,
    allocation,
    dealt,
    sample_parameters,
    sampled,
)
from runtime_matrix.experiments.tasks.task import QualityTask


@dataclass(frozen=True)
class Item:
    id: str
    subject: str = ""
    is_right: bool = False


def ids(items: Sequence[Item], sample: int, seed: int = 0, benchmark: str = "code") -> list[str]:
    return [item.id for item in sampled(items, SampleOptions(sample=sample, sample_seed=seed), benchmark)]


ITEMS = [Item(str(number)) for number in range(200)]
SIZES = {"a": 70, "b": 25, "c": 5}
SUBJECTS = [Item(f"{name}{number}", name) for name, size in SIZES.items() for number in range(size)]


def test_the_draw_does_not_depend_on_the_order() -> None:
    shuffled = random.Random(0).sample(ITEMS, len(ITEMS))
    assert set(ids(shuffled, 20)) == set(ids(ITEMS, 20))
    assert ids(ITEMS, 20) == sorted(ids(ITEMS, 20), key=int)  # the order of the data stays


def test_seed_and_benchmark_change_the_draw() -> None:
    draws = [ids(ITEMS, 20), ids(ITEMS, 20, seed=1), ids(ITEMS, 20, benchmark="multiple_choice")]
    assert len({tuple(draw) for draw in draws}) == 3


def test_a_sample_contains_the_smaller_one_of_the_same_seed() -> None:
    assert set(ids(ITEMS, 10)) < set(ids(ITEMS, 20))


def test_each_item_is_drawn_equally_often() -> None:
    counts = Counter(name for seed in range(400) for name in ids(ITEMS, 50, seed))
    assert len(counts) == len(ITEMS)
    assert pstdev(counts.values()) < 2 * (400 * 0.25 * 0.75) ** 0.5  # of a fair draw: 8.7
    assert mean(counts.values()) == pytest.approx(100)


@pytest.mark.parametrize(
    ("sample", "shares"),
    [
        (20, {"a": 14, "b": 5, "c": 1}),
        (10, {"a": 7, "b": 2, "c": 1}),  # 7, 2.5 and 0.5: the smallest has one, the others divide the rest
        (3, {"a": 1, "b": 1, "c": 1}),
        (99, {"a": 69, "b": 25, "c": 5}),
        (100, {"a": 70, "b": 25, "c": 5}),
    ],
)
def test_each_subject_has_its_share_and_at_least_one(sample: int, shares: dict[str, int]) -> None:
    options = SampleOptions(sample=sample)
    drawn = sampled(SUBJECTS, options, "multiple_choice", lambda item: item.subject)
    assert Counter(item.subject for item in drawn) == shares


def test_allocations_add_up() -> None:
    draw = random.Random(1)
    for _ in range(300):
        sizes = {str(name): draw.choice((1, 2, 9, 100, 3000)) for name in range(draw.randint(1, 40))}
        sample = draw.randint(len(sizes), sum(sizes.values()))
        shares = allocation(sizes, sample)
        assert sum(shares.values()) == sample
        assert all(1 <= shares[name] <= size for name, size in sizes.items())


def test_fewer_items_than_subjects_are_drawn_from_all() -> None:
    options = [SampleOptions(sample=2, sample_seed=seed) for seed in range(100)]
    drawn = [item for one in options for item in sampled(SUBJECTS, one, "x", lambda item: item.subject)]
    assert len(drawn) == 200
    assert Counter(item.subject for item in drawn)["a"] == pytest.approx(140, abs=20)


def test_the_standard_error_covers_the_whole_data() -> None:
    """By subject, the mean over all draws is that of all items, and a draw is rarely two standard errors off."""
    draw = random.Random(2)
    chance = {"a": 0.9, "b": 0.4, "c": 0.1}
    items = [replace(item, is_right=draw.random() < chance[item.subject]) for item in SUBJECTS]
    truth = mean(item.is_right for item in items)
    means, misses = [], 0
    for seed in range(300):
        options = SampleOptions(sample=40, sample_seed=seed)
        right = [item.is_right for item in sampled(items, options, "x", lambda item: item.subject)]
        error = standard_error(right)
        assert error is not None
        means.append(mean(right))
        misses += abs(means[-1] - truth) > 1.96 * error
    assert mean(means) == pytest.approx(truth, abs=0.01)
    assert misses <= 0.05 * 300


def test_different_samples_are_not_paired() -> None:
    answers = {
        seed: [Answered(id=name, text="", is_right=True, worth=True) for name in ids(ITEMS, 20, seed)]
        for seed in (0, 1)
    }
    assert compare_items("code", answers[0], answers[0], None).items == 20
    with pytest.raises(DifferentItems, match="the two cells answered different items"):
        compare_items("code", answers[0], answers[1], None)


WITH_ITEMS = [task for task in benchmarks().values() if isinstance(task, QualityTask) and task.score is not None]


def chosen(name: str, *words: str) -> tuple[Any, Any]:
    needed = ["benchmark.lm_eval.tasks=[arc_easy]"] if name == "lm_eval" else []
    config: CellConfig = build(CellConfig, compose([f"benchmark=[{name}]", *needed, *words]))
    ((task, options),) = config.benchmark.items()
    return task, options


@pytest.mark.parametrize("name", [task.name for task in WITH_ITEMS])
def test_every_benchmark_with_items_can_be_sampled(name: str) -> None:
    assert isinstance(chosen(name)[1], SampleOptions)


@pytest.mark.parametrize("name", [task.name for task in WITH_ITEMS if task.name not in ("perplexity", "lm_eval")])
def test_bundled_data_are_sampled(name: str) -> None:
    task, options = chosen(name)
    every = task.texts(options)[name]
    drawn, again, other = (task.texts(replace(options, sample=30, sample_seed=seed))[name] for seed in (1, 1, 2))
    assert len(drawn) == len(other) == 30
    assert drawn == again != other
    assert set(drawn) <= set(every)
    parameters = sample_parameters(task, replace(options, sample=30, sample_seed=1))
    assert parameters == {"sample": 30, "sample_seed": 1, "sample_of": len(every)}
    assert sample_parameters(task, options) == {}


def test_a_sample_of_all_of_mmlu_has_every_subject(data_folder: Path) -> None:
    every = questions.load(data_folder / "mmlu", None, 5).questions
    words = f"benchmark.multiple_choice.data={data_folder / 'mmlu'}", "benchmark.multiple_choice.shots=5"
    task, options = chosen("multiple_choice", *words)
    assert isinstance(task, multiple_choice.MultipleChoice)
    drawn = task._questions(replace(options, sample=1000)).questions
    counts, sizes = (Counter(question.subject for question in group) for group in (drawn, every))
    assert len(drawn) == 1000
    assert len(counts) == 57
    assert all(abs(counts[name] - 1000 * size / 14042) <= 1 for name, size in sizes.items())


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_items_are_dealt_evenly_in_their_order_and_each_once(count: int) -> None:
    parts = [dealt(ITEMS, Part(index, count), "code") for index in range(count)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert sorted((item.id for part in parts for item in part), key=int) == [item.id for item in ITEMS]
    for part in parts:
        assert part == [item for item in ITEMS if item in part]


def test_parts_depend_on_ids_alone() -> None:
    part, shuffled = Part(1, 3), random.Random(0).sample(ITEMS, len(ITEMS))
    assert {item.id for item in dealt(ITEMS, part, "code")} == {item.id for item in dealt(shuffled, part, "code")}
    assert dealt(ITEMS, part, "code") != dealt(ITEMS, part, "extractive_qa")


def test_a_part_is_of_the_drawn_items() -> None:
    options = SampleOptions(sample=20, sample_seed=3)
    drawn = sampled(ITEMS, options, "code")
    parts = [sampled(ITEMS, replace(options, part=Part(index, 2)), "code") for index in range(2)]
    assert [len(part) for part in parts] == [10, 10]
    assert {item.id for part in parts for item in part} == {item.id for item in drawn}


def test_a_part_without_items_is_an_error_of_its_own() -> None:
    with pytest.raises(EmptyPartError, match="shard 2 of 3 has none of the 2 items of code"):
        dealt(ITEMS[:2], Part(2, 3), "code")
