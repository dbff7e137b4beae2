from __future__ import annotations

import random
from collections.abc import Callable

from runtime_matrix.experiments.traffic.search import Counts, HighestRate, highest_rate


def step_at(limit: float) -> Callable[[float, int], Counts]:
    return lambda rate, number: (100, 100) if rate <= limit else (0, 100)


def test_the_bracket_encloses_the_limit_within_the_precision() -> None:
    found = highest_rate(step_at(7.3), 0.5, 64, 0.95)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 7.3 < found.high
    assert found.high / found.low <= 1.1
    assert len(found.trials) <= 10


def test_a_limit_above_the_range_has_no_upper_end() -> None:
    found = highest_rate(step_at(100), 0.5, 64, 0.95)
    assert (found.low, found.high) == (64, None)
    assert [trial.is_confirmation for trial in found.trials] == [False, True]


def test_an_objective_that_never_holds_has_no_lower_end() -> None:
    found = highest_rate(step_at(0.1), 0.5, 64, 0.95)
    assert found.low is None
    assert found.high is not None
    assert found.high <= 0.5 * 1.1
    assert any(trial.rate == 0.5 and not trial.holds(0.95) for trial in found.trials)


def test_each_judgement_pools_two_new_loads() -> None:
    loads: list[tuple[float, int]] = []

    def attained(rate: float, number: int) -> Counts:
        loads.append((rate, number))
        return (30, 32) if rate <= 8 else (20, 32)

    found = highest_rate(attained, 1, 64, 0.9)
    assert len(loads) == len(set(loads)) == 2 * len(found.trials)
    assert all(trial.requests == 64 for trial in found.trials)
    confirmed = [trial.rate for trial in found.trials if trial.is_confirmation]
    assert confirmed == [found.low, found.high]


def test_an_end_that_is_not_confirmed_widens_the_bracket() -> None:
    def attained(rate: float, number: int) -> Counts:
        lucky = number < 2 and rate <= 20  # holds in the search, and not again above 5
        return (100, 100) if rate <= 5 or lucky else (0, 100)

    found = highest_rate(attained, 1, 64, 0.95)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 5
    assert found.high > 20
    assert found.high / found.low > 1.1


def noisy(seed: int) -> HighestRate:
    source = random.Random(seed)

    def attained(rate: float, number: int) -> Counts:
        share = 1 / (1 + (rate / 20) ** 6)  # 95 % at 12.2 per second
        return sum(source.random() < share for _ in range(128)), 128

    return highest_rate(attained, 1, 64, 0.95)


def test_noise_moves_the_bracket_little() -> None:
    limit = 20 * (1 / 0.95 - 1) ** (1 / 6)
    found = [noisy(seed) for seed in range(200)]
    lows, highs = [result.low for result in found], [result.high for result in found]
    assert None not in lows
    assert None not in highs
    far = sum(not low / 1.25 <= limit <= high * 1.25 for low, high in zip(lows, highs, strict=True))  # type: ignore[operator]
    assert far <= 4
