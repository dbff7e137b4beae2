"""Rounds of detection in interleaved launches."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from runtime_matrix.experiments.measurement.machine import MachineChange
from runtime_matrix.experiments.records.comparison import Launch, ObservedBlock, PeakMemory
from runtime_matrix.experiments.records.ratios import DETECTION, Clock, log_ratios
from runtime_matrix.experiments.timing.observed import draw_responses


def test_responses_are_drawn_anew_for_each_round_and_alike_for_each_cell() -> None:
    options: Any = SimpleNamespace(observed_responses=3, prompt_tokens=(5, 9), new_tokens=4)
    first, again, other = (draw_responses(key, options, 100) for key in ("a 1", "a 1", "a 2"))
    assert first == again
    assert first != other
    assert len({request.ids for request in first}) == 3
    for request in first:
        assert request.tokens == 4
        assert request.context == range(request.first_scored)
        assert 5 <= request.first_scored <= 9


@pytest.mark.parametrize(("clock", "expected"), [(Clock.WALL, [-0.6931]), (Clock.CPU, [])])
def test_detection_is_compared_by_wall_time_of_its_rounds(clock: Clock, expected: list[float]) -> None:
    block = ObservedBlock(candidate=[1.0, 2.0, 1.5], reference=[2.0, 4.0, 3.0], responses=3)
    assert log_ratios([_launch(observed=block)], DETECTION, clock) == pytest.approx(expected, abs=1e-4)
    assert log_ratios([_launch()], DETECTION, clock) == []


def _launch(**more: Any) -> Launch:
    absent: Mapping[str, Any] = dict.fromkeys(("own", "long", "batched", "one_thread"))
    memory = PeakMemory()
    machine = MachineChange()
    return Launch(
        **absent, candidate_memory=memory, reference_memory=memory, threads=2, device="cpu", machine=machine, **more
    )
