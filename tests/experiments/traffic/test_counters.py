from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest

from runtime_matrix.experiments.traffic.counters import Counters


class Readings:
    """Gives these readings in turn, then the last one."""

    def __init__(self, *readings: Mapping[str, float] | Exception):
        self._readings = list(readings)
        self.is_used_up = threading.Event()

    def __call__(self) -> Mapping[str, float]:
        if len(self._readings) == 2:
            self.is_used_up.set()
        reading = self._readings.pop(0) if len(self._readings) > 1 else self._readings[0]
        if isinstance(reading, Exception):
            raise reading
        return reading


def watched(readings: Readings) -> Counters:
    with Counters(readings, period_s=0.001) as counters:
        assert readings.is_used_up.wait(10)
    return counters


def test_counters_grow_and_gauges_have_a_highest_value() -> None:
    counters = watched(
        Readings(
            {"tokens": 10, "waiting": 0, "limit": 8},
            {"tokens": 20, "waiting": 5, "limit": 8},
            {"tokens": 30, "waiting": 2, "limit": 8},
            {"tokens": 40, "waiting": 0, "limit": 8, "late": 1},
        )
    )
    assert counters.changes() == {"tokens": 30, "late": 1}
    assert counters.highest() == {"waiting": 5}
    assert counters.highest_of(("queue", "waiting")) == 5
    assert counters.highest_of(("queue",)) is None
    assert counters.failure is None


def test_an_engine_without_counters_is_read_once_at_each_end() -> None:
    with Counters(lambda: {}) as counters:
        assert threading.active_count() < 50
    assert counters.changes() == counters.highest() == {}
    assert counters.highest_of(("waiting",)) is None


def test_an_engine_that_stops_to_answer_is_named_and_fails_no_load() -> None:
    counters = watched(Readings({"tokens": 1}, {"tokens": 4}, OSError("no\nanswer")))
    assert counters.failure == "OSError: no answer"
    assert counters.changes() == {"tokens": 3}


def test_exceptions_of_the_block_pass() -> None:
    with pytest.raises(KeyboardInterrupt), Counters(lambda: {"tokens": 1}):
        raise KeyboardInterrupt
