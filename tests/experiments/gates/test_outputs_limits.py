"""Whether what was timed, replayed and checked is what the reference computes."""

from __future__ import annotations

import pytest
from msgspec import structs

from runtime_matrix.experiments.gates.findings import Measured
from runtime_matrix.experiments.records.schema import Load, Replay
from tests.experiments.gates.judged import AGREEMENT, RUNTIME, changed, compared, found, speed, with_entry


def test_wrong_timed_tokens_fail_without_a_verdict_on_speed(measured: Measured) -> None:
    fast = speed(-0.9)
    first, *others = fast.launches
    assert first.tokens is not None
    tokens = structs.replace(first.tokens, forced=12, forced_top=0, max_gap=20.0)
    wrong = structs.replace(fast, launches=[structs.replace(first, tokens=tokens), *others])
    seen = found(compared(measured, wrong))
    assert seen["reference.outputs.timed_work"].verdict == "fail"
    assert (
        "wrong output: 12 of 480 timed tokens are not the reference's" in seen["reference.outputs.timed_work"].message
    )
    assert seen["reference.speedup.decode"].verdict == seen["reference.cpu_speedup.decode"].verdict == "inconclusive"


@pytest.mark.parametrize("name", ["replay", "agreement"])
def test_replay_and_agreement_are_limited_too(measured: Measured, name: str) -> None:
    wrong = {
        "replay": changed(measured, replay=Replay(tokens=32, same_top_tokens=0, max_logprob_gap=20.4)),
        "agreement": with_entry(measured, "agreement", figures=AGREEMENT | {"max_logit_difference": 0.5}),
    }
    seen = found(wrong[name])
    assert [one.name for one in seen.values() if one.verdict != "pass"] == [f"reference.outputs.{name}"]
    assert seen[f"reference.outputs.{name}"].verdict == "fail"


def test_weights_unlike_the_reference_s_must_agree_often_enough(measured: Measured) -> None:
    def judged(same: int) -> str:
        other = changed(measured, config={"runtime": RUNTIME | {"weights": {"name": "gptq"}}})
        figures = AGREEMENT | {"max_logit_difference": 3.0, "continuation_same_top": same}
        other = with_entry(other, "agreement", figures=figures)
        other = compared(other, structs.replace(speed(), token_rule="share"))
        return found(other)["reference.outputs.agreement"].verdict

    assert [judged(same) for same in (380, 280, 200)] == ["pass", "inconclusive", "fail"]  # of 384, 75 % required


WHOLE = Load(phases_s={}, dtype="float32", device="cpu", takes_whole_requests=True)


def test_without_logits_the_timed_tokens_alone_are_judged(measured: Measured) -> None:
    seen = found(changed(measured, load=WHOLE))
    assert "reference.outputs.agreement" not in seen
    timed = seen["reference.outputs.timed_work"]
    assert timed.verdict == "pass"
    assert timed.message.endswith("0 of 0 scored ones are its choice; without logits there is no agreement check")


def test_other_weights_without_logits_must_choose_the_reference_s_tokens_often_enough(measured: Measured) -> None:
    """There is no agreement check that their share could be compared with: the required share is the gate's."""

    def judged(top: int) -> str:
        launches = [
            structs.replace(launch, tokens=structs.replace(launch.tokens, forced=24, forced_top=top, max_gap=9.0))
            for launch in speed().launches
            if launch.tokens is not None
        ]
        other = changed(measured, load=WHOLE, config={"runtime": RUNTIME | {"weights": {"name": "gguf_q8_0"}}})
        other = with_entry(other, "agreement", status="skipped", figures={})
        other = compared(other, structs.replace(speed(), token_rule="share", launches=launches))
        return found(other)["reference.outputs.timed_work"].verdict

    assert [judged(top) for top in (24, 18, 16, 0)] == ["pass", "pass", "fail", "fail"]  # of 24, 75 % required
