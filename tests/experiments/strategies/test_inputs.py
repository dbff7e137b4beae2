from __future__ import annotations

import pytest

from runtime_matrix.experiments.strategies.inputs import mutated

NESTED = ([1, 2.5, "ab"], {"k": [True, None], "l": []}, (3, "x"), {4, 5}, "Hi 7")


def shape(value: object) -> object:
    """Return the type, and of collections the types within."""
    if isinstance(value, dict):
        return dict, frozenset(map(shape, value)), frozenset(map(shape, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return type(value), frozenset(map(shape, value))
    return type(value)


def test_types_stay_and_nothing_comes_twice() -> None:
    inputs = [([3, -1, 4], "word"), ([0], "two words")]
    new = mutated(inputs, 200, seed=1)
    assert len(new) == 200
    assert len({repr(one) for one in [*new, *inputs]}) == 202
    for numbers, text in new:
        assert type(numbers) is list
        assert type(text) is str
        assert all(type(number) is int for number in numbers)


def test_nested_values_change_at_every_depth() -> None:
    new = mutated([NESTED], 300, seed=0)
    assert all([type(value) for value in one] == [list, dict, tuple, set, str] for one in new)
    assert all(len({repr(one[at]) for one in new}) > 3 for at in range(5))
    allowed = shape([1, 2.5, "ab"])
    assert all(shape(one[0])[1] <= allowed[1] for one in new)  # type: ignore[index]
    assert any(one[1].get("k") not in (None, [True, None]) for one in new)  # type: ignore[attr-defined]


def test_a_seed_gives_the_same_inputs_and_another_seed_others() -> None:
    assert mutated([NESTED], 50, seed=3) == mutated([NESTED], 50, seed=3)
    assert mutated([NESTED], 50, seed=3) != mutated([NESTED], 50, seed=4)


def test_numbers_move_by_one_or_come_from_the_inputs() -> None:
    for (number,) in mutated([(10,), (500,)], 6, seed=0):
        assert any(abs(number - near) <= 6 for near in (10, 500))  # type: ignore[operator]


@pytest.mark.parametrize("inputs", [[], [()], [(None,)], [("",)], [([],)], [(object,)]])
def test_what_cannot_change_ends_without_inputs(inputs: list[tuple[object, ...]]) -> None:
    assert mutated(inputs, 5, seed=0) == []


def test_two_values_of_a_type_without_more_end_early() -> None:
    assert mutated([(True,)], 10, seed=0) == [(False,)]


def test_collections_do_not_grow_without_end() -> None:
    assert max(len(text) for (text,) in mutated([("ab",)], 2000, seed=0)) <= 64  # type: ignore[arg-type]
