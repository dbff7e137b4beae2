from __future__ import annotations

import pytest

from runtime_matrix.experiments.traffic.driver import Driven, OpenLoop, Served, drive
from runtime_matrix.experiments.traffic.figures import Objective, figures, samples
from runtime_matrix.runtimes.requests import Failed, Generated, Usage
from tests.experiments.traffic.scripted import ScriptedClock, ScriptedEngine, requests


def served(planned_s: float, *tokens_s: float, cached: int | None = None) -> Served:
    ids = tuple(range(len(tokens_s)))
    usage = Usage(10, len(ids), cached)
    return Served(
        planned_s, 10, 3, planned_s, list(tokens_s), list(ids), max(tokens_s), Generated(ids, "", "length"), usage
    )


def failed(planned_s: float, reason: str = "HTTP 500", is_cancelled: bool = False) -> Served:
    return Served(planned_s, 10, 3, planned_s + 0.2, [], [], planned_s + 1, Failed(reason, is_cancelled))


def test_an_objective_limits_each_request() -> None:
    request = served(1.0, 1.5, 1.6, 1.9)
    assert Objective().is_met(request)
    assert Objective(ttft_s=0.5, tpot_s=0.21, e2e_s=0.9).is_met(request)
    for broken in (Objective(ttft_s=0.49), Objective(tpot_s=0.19), Objective(e2e_s=0.89)):
        assert not broken.is_met(request)
    assert Objective(tpot_s=0.001).is_met(served(0.0, 0.5))  # a single token has no gap
    assert not Objective().is_met(failed(0.0))


def test_figures_of_a_load_with_failures() -> None:
    requests = [
        served(0.0, 0.5, 0.6, 0.7, cached=5),
        served(1.0, 3.5, 3.6, cached=0),
        failed(2.0),
        failed(3.0, "cancelled", is_cancelled=True),
    ]
    found = figures(Driven(requests, 8.0, 2), Objective(ttft_s=1.0))
    assert found["requests"] == 4
    assert found["completed_requests"] == 2
    assert found["failed_requests"] == 1
    assert found["cancelled_requests"] == 1
    assert found["short_requests"] == 1  # two of three tokens
    assert found["error_ratio"] == 0.5
    assert found["first_failure"] == "HTTP 500"
    assert found["requests_per_s"] == 2 / 8
    assert found["tokens_per_s"] == 5 / 8
    assert found["goodput_requests_per_s"] == 1 / 8
    assert found["met_requests"] == 1
    assert found["objective_ratio"] == 0.25
    assert found["offered_requests_per_s"] == 1.0
    assert found["server_new_tokens"] == 5
    assert found["cached_prompt_ratio"] == 5 / 20
    low, high = found["objective_ratio_low"], found["objective_ratio_high"]
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert 0 < low < 0.25 < high < 1


def test_a_text_whose_tokens_were_not_seen_is_no_answer() -> None:
    unseen = Served(0.0, 10, 3, 0.0, [], [], 1.0, Generated((1, 2, 3), "abc", "length"))
    found = figures(Driven([unseen], 1.0, 1), Objective())
    assert (found["completed_requests"], found["error_ratio"], found["objective_ratio"]) == (0, 1.0, 0.0)
    assert "no token was seen" in str(found["first_failure"])


def test_what_an_engine_does_not_report_is_unknown() -> None:
    found = figures(Driven([served(0.0, 1.0), served(0.0, 1.0, cached=3)], 0.0, 1), Objective())
    assert found["cached_prompt_ratio"] is None
    assert found["requests_per_s"] is None  # no time has passed
    assert found["offered_requests_per_s"] is None


def test_samples_are_those_of_complete_requests_and_the_lateness_of_all() -> None:
    found = samples(Driven([served(0.0, 0.5, 0.6, 0.8), served(1.0, 2.0), failed(2.0)], 8.0, 2))
    assert found["ttft_s"] == [0.5, 1.0]
    assert found["tpot_s"] == pytest.approx([0.15])  # the mean of a request
    assert found["itl_s"] == pytest.approx([0.1, 0.2])  # single gaps
    assert found["e2e_s"] == [0.8, 1.0]
    assert found["lateness_s"] == pytest.approx([0, 0, 0.2])


def test_goodput_falls_when_the_engine_is_overloaded() -> None:
    ratios = []
    for rate in (5.0, 20.0):
        clock = ScriptedClock()
        engine = ScriptedEngine(clock, first_s=0.1, token_s=0.0, slots=1)  # ten per second
        driven = drive(engine.start, requests(100), OpenLoop([n / rate for n in range(100)]), 60, clock=clock)
        ratios.append(figures(driven, Objective(ttft_s=0.5))["objective_ratio"])
    assert ratios[0] == 1
    assert ratios[1] == pytest.approx(0.09, abs=0.02)
