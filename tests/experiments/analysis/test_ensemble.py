"""Ensembles: votes and log-probabilities, correlated errors, and members that do not fit together."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.ensemble import combine, phi
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.records.item import Item


def choices(predicted: Sequence[int], right: Sequence[int], certainty: float = 1.0) -> list[Item]:
    return [
        Item(
            id=f"q-{number}",
            question=f"question {number}",
            answer=answer,
            predicted=choice,
            is_right=choice == answer,
            worth=choice == answer,
            logprobs=[0.0 if index == choice else -certainty for index in range(3)],
            lengths=[1, 1, 1],
        )
        for number, (choice, answer) in enumerate(zip(predicted, right, strict=True))
    ]


def texts(words: Sequence[str], right: Sequence[bool]) -> list[Item]:
    return [
        Item(id=str(number), prompt=f"p{number}", text=text, is_right=is_right, worth=is_right)
        for number, (text, is_right) in enumerate(zip(words, right, strict=True))
    ]


RIGHT = [0, 1, 2, 0]
CELLS = {
    "a": choices([0, 1, 0, 1], RIGHT),  # the best, with two right
    "b": choices([0, 2, 2, 2], RIGHT),
    "c": choices([1, 1, 2, 2], RIGHT),
}


def test_the_majority_answers() -> None:
    ensemble = combine("multiple_choice", CELLS, "vote", None)
    assert [member.score for member in ensemble.members] == [0.5, 0.5, 0.5]
    assert ensemble.score == 0.75
    assert ensemble.best.name == "a"
    assert ensemble.at_least_one == 0.75
    assert ensemble.ties == 0
    assert ensemble.difference is not None
    assert ensemble.difference.estimate == 0.25
    assert ensemble.difference.low < 0 < ensemble.difference.high


def test_without_a_majority_the_first_member_answers() -> None:
    ensemble = combine("multiple_choice", {"a": CELLS["a"], "b": CELLS["b"]}, "vote", None)
    assert ensemble.score == ensemble.members[0].score
    assert ensemble.ties == 3


def test_the_mean_log_probability_follows_the_more_certain_member() -> None:
    sure, unsure = choices([0, 1, 2, 0], RIGHT, certainty=5.0), choices([1, 2, 0, 1], RIGHT, certainty=1.0)
    assert combine("multiple_choice", {"a": unsure, "b": sure}, "logprob", None).score == 1.0
    assert combine("multiple_choice", {"a": unsure, "b": sure}, "vote", None).score == 0.0


def test_a_log_probability_is_divided_as_its_cell_divides_it() -> None:
    long = [replace(item, lengths=[1, 1, 100]) for item in choices([0], [2], certainty=5.0)]
    other = [replace(item, lengths=[1, 1, 100]) for item in choices([1], [2], certainty=5.0)]
    assert combine("multiple_choice", {"a": long, "b": other}, "logprob", None).score == 1.0


def test_texts_are_the_same_by_their_words_and_programs_by_their_characters() -> None:
    cells = {
        "a": texts(["in Rome"], [False]),
        "b": texts(["the Paris!"], [True]),
        "c": texts(["paris"], [True]),
    }
    assert combine("free_form", cells, "vote", "english").score == 1.0
    assert combine("code", cells, "vote", None).score == 0.0


def test_the_same_answer_with_other_scores_is_counted() -> None:
    cells = {"a": texts(["x"] * 3, [True] * 3), "b": texts(["x"] * 3, [True, False, True])}
    ensemble = combine("code", cells, "vote", None)
    assert ensemble.unlike_scores == 1
    assert ensemble.score == 1.0  # that of the first member


def test_members_with_independent_errors_gain_and_equal_ones_do_not() -> None:
    draw = random.Random(0)
    right = [0] * 2000
    cells = {
        name: choices([0 if draw.random() < 0.7 else draw.choice((1, 2)) for _ in right], right) for name in "abcde"
    }
    ensemble = combine("multiple_choice", cells, "vote", None)
    assert ensemble.difference is not None
    assert ensemble.difference.low > 0.1  # of five voters with 70 %, at least three are right in 84 %
    assert all(value is not None and abs(value) < 0.08 for value in ensemble.correlations.values())
    equal = combine("multiple_choice", dict.fromkeys("abc", cells["a"]), "vote", None)
    assert equal.score == equal.best.score
    assert equal.correlations["a", "b"] == pytest.approx(1)


def test_phi_of_a_table() -> None:
    first, second = [1.0] * 60 + [0.0] * 40, [1.0] * 50 + [0.0] * 10 + [1.0] * 10 + [0.0] * 30
    assert phi(first, second) == pytest.approx((50 * 30 - 10 * 10) / (60 * 40 * 60 * 40) ** 0.5)
    assert phi(first, [1.0] * 100) is None


def test_members_may_have_another_order() -> None:
    cells = {"a": CELLS["a"], "b": CELLS["b"][::-1], "c": CELLS["c"]}
    assert combine("multiple_choice", cells, "vote", None).score == 0.75


A, B = CELLS["a"], CELLS["b"]


@pytest.mark.parametrize(
    ("items", "rule", "says"),
    [
        (B[:2], "vote", r"other lacks items q-2, q-3 of a: give cells with the same data"),
        ([*B, replace(B[0], id="q-9")], "vote", "a lacks item q-9 of other"),
        ([*B, B[0]], "vote", "item q-0 of other occurs twice"),
        ([replace(B[0], question="?"), *B[1:]], "vote", "item q-0 ask something else in other than in a"),
        ([replace(B[0], answer=1), *B[1:]], "vote", "item q-0 ask something else in other"),
        ([replace(B[0], worth=None), *B[1:]], "vote", "an item of other has no 'is_right'"),
        ([replace(item, answer=5) for item in B], "vote", "an item of other is damaged: list index out of range"),
        ([replace(item, logprobs=[]) for item in B], "vote", "an item of other is damaged"),
        ([replace(B[0], worth=7.0), *B[1:]], "vote", "a score is not between 0 and 1"),
        ([replace(B[0], predicted=None), *B[1:]], "vote", "item q-0 has neither a choice nor a text"),
        ([replace(B[0], logprobs=None), *B[1:]], "logprob", "the items of other have no log-probabilities"),
        ([replace(B[0], logprobs=[0.0, float("nan"), 1.0]), *B[1:]], "logprob", "of item q-0 of other are damaged"),
        ([replace(B[0], lengths=[1, 0, 1]), *B[1:]], "logprob", "of item q-0 of other are damaged"),
        ([replace(B[0], logprobs=[0.0, -1.0], lengths=[1, 1]), *B[1:]], "logprob", "another number of choices"),
    ],
)
def test_members_that_do_not_fit_are_refused(items: list[Item], rule: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        combine("multiple_choice", {"a": A, "other": items}, rule, None)  # type: ignore[arg-type]


def test_cells_without_items_are_refused() -> None:
    with pytest.raises(UserError, match="a, b have no items"):
        combine("code", {"a": [], "b": []}, "vote", None)


def test_texts_have_no_log_probabilities() -> None:
    cells = {"a": texts(["x"], [True]), "b": texts(["y"], [False])}
    with pytest.raises(UserError, match="code: the items of a have no log-probabilities; combine them by vote"):
        combine("code", cells, "logprob", None)
