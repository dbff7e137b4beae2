"""Whether what was timed, replayed and checked is what the reference computes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runtime_matrix.experiments.gates.findings import Measured
from tests.experiments.gates.judged import AGREEMENT, RUNTIME, found, record, speed


def test_timed_tokens_that_are_wrong_fail_and_no_speed_is_judged(measured: Measured) -> None:
    wrong = speed(-0.9)
    wrong["launches"][0]["tokens"] |= {"forced": 12, "forced_top": 0, "max_gap": 20.0}
    seen = found(replace(measured, record=record("mine", speed=wrong)))
    assert seen["reference.outputs.timed_work"].verdict == "fail"
    assert (
        "wrong output: 12 of 240 timed tokens are not the reference's" in seen["reference.outputs.timed_work"].message
    )
    assert seen["reference.speedup.decode"].verdict == seen["reference.cpu_speedup.decode"].verdict == "inconclusive"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("replay", {"replay": {"tokens": 32, "same_top_tokens": 0, "max_logprob_gap": 20.4}}),
        ("agreement", {"agreement": AGREEMENT | {"max_logit_difference": 0.5}}),
    ],
)
def test_what_is_computed_elsewhere_is_limited_too(measured: Measured, name: str, changes: dict[str, Any]) -> None:
    made = record("mine")
    if "agreement" in changes:
        made["benchmarks"][0]["figures"] = changes["agreement"]
    else:
        made |= changes
    seen = found(replace(measured, record=made))
    assert [one.name for one in seen.values() if one.verdict != "pass"] == [f"reference.outputs.{name}"]
    assert seen[f"reference.outputs.{name}"].verdict == "fail"


def test_weights_unlike_the_reference_s_must_agree_often_enough(measured: Measured) -> None:
    def judged(same: int) -> str:
        made = record("mine", config={"runtime": RUNTIME | {"weights": {"name": "gptq"}}})
        made["benchmarks"][0]["figures"] = AGREEMENT | {"max_logit_difference": 3.0, "continuation_same_top": same}
        made["speed"] |= {"token_rule": "share"}
        return found(replace(measured, record=made))["reference.outputs.agreement"].verdict

    assert [judged(same) for same in (380, 280, 200)] == ["pass", "inconclusive", "fail"]  # of 384, 75 % wanted
