from __future__ import annotations

import random
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.gates.answers.gate import AnswerLimits, judge_answers
from tests.experiments.answers import written

RIGHT = [1.0] * 600 + [0.0] * 400


def _with_losses(count: int, won: int = 0) -> list[float]:
    return [0.0] * count + RIGHT[count : 1000 - won] + [1.0] * won


def _judged(tmp_path: Path, candidate: list[float], **limits: object) -> object:
    paths = [written.lm_eval(tmp_path / name, {"arc": scores}) for name, scores in (("a", candidate), ("b", RIGHT))]
    return judge_answers(paths[0], paths[1], AnswerLimits(**{"margin": 0.02, **limits}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lost", "won", "verdict"), [(0, 0, "pass"), (20, 20, "pass"), (20, 0, "inconclusive"), (60, 10, "fail")]
)
def test_the_loss_is_judged_within_the_margin(tmp_path: Path, lost: int, won: int, verdict: str) -> None:
    judgement = _judged(tmp_path, _with_losses(lost, won))
    (finding,) = judgement.findings  # type: ignore[attr-defined]
    assert finding.verdict == verdict
    assert finding.value == pytest.approx((lost - won) / 10)
    assert f"loses {finding.value:.3g} points" in finding.figures


def test_tasks_are_pooled_and_can_be_judged_one_by_one(tmp_path: Path) -> None:
    harmed, equal = _with_losses(80), RIGHT
    for name, arc in (("a", harmed), ("b", RIGHT)):
        written.lm_eval(tmp_path / name, {"arc": arc, **{f"t{number}": equal for number in range(9)}})
    pooled = judge_answers(tmp_path / "a", tmp_path / "b", AnswerLimits(margin=0.02))
    assert [finding.name for finding in pooled.findings] == ["all 10 tasks"]
    assert pooled.verdict == "pass"  # 0.8 points of 10,000 items
    each = judge_answers(tmp_path / "a", tmp_path / "b", AnswerLimits(margin=0.02, each_task=True))
    assert len(each.findings) == 11
    assert {finding.name for finding in each.findings if finding.verdict == "fail"} == {"arc"}
    assert "10,000 independent items" in pooled.plan[0]


def test_what_so_many_items_can_show_does_not_look_at_the_scores(tmp_path: Path) -> None:
    plans = [_judged(tmp_path, _with_losses(lost)).plan for lost in (0, 300)]  # type: ignore[attr-defined]
    assert plans[0] == plans[1]
    assert len(plans[0]) == 4


def test_a_sequential_gate_rarely_errs_however_often_it_looks(tmp_path: Path) -> None:
    wrong = 0
    for seed in range(25):
        source = random.Random(seed)
        pairs = [source.choice([(1, 0), (0, 1), (1, 1), (1, 1), (0, 0)]) for _ in range(240)]
        for count in range(40, 241, 40):
            for side, name in enumerate("ab"):
                written.lm_eval(tmp_path / name, {"arc": [float(pair[side]) for pair in pairs[:count]]})
            limits = AnswerLimits(margin=0.0, is_sequential=True)
            if judge_answers(tmp_path / "a", tmp_path / "b", limits).verdict == "fail":
                wrong += 1
                break
    assert wrong <= 4  # at most 5 % of 25, and chance


def test_lower_can_be_better(tmp_path: Path) -> None:
    for name, value in (("a", 2.0), ("b", 1.0)):
        folder = written.lm_eval(tmp_path / name, {"ppl": [value, value + 0.1, value]})
        results = folder / f"results_{written.DATE}.json"
        results.write_text(results.read_text().replace('"acc": true', '"acc": false'))
    judgement = judge_answers(tmp_path / "a", tmp_path / "b", AnswerLimits(margin=0.5))
    assert judgement.verdict == "fail"
    assert judgement.findings[0].value == pytest.approx(1.0)
    assert judgement.plan == []


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        ({"piqa": [1.0]}, "a has no task arc: choose common ones with --tasks"),
        ({"arc": [1.0, 0.0]}, "arc: {tmp}/a lacks item 2 of the other file's"),
        ({"arc": [1.0] * 9}, "arc: {tmp}/b lacks 6 items, 3, 4, 5 and 3 more of the other file's"),
    ],
)
def test_items_that_do_not_match_are_named(tmp_path: Path, candidate: dict[str, list[float]], message: str) -> None:
    written.lm_eval(tmp_path / "a", candidate)
    written.lm_eval(tmp_path / "b", {"arc": [1.0, 0.0, 1.0]})
    with pytest.raises(UserError) as error:
        judge_answers(tmp_path / "a", tmp_path / "b", AnswerLimits(margin=0.01))
    assert message.format(tmp=tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_other_questions_are_refused(tmp_path: Path) -> None:
    written.lm_eval(tmp_path / "a", {"arc": [1.0, 0.0]}, target_hash="another")
    written.lm_eval(tmp_path / "b", {"arc": [1.0, 0.0]})
    with pytest.raises(UserError, match="arc: 2 items, 0, 1 ask something else in"):
        judge_answers(tmp_path / "a", tmp_path / "b", AnswerLimits(margin=0.01))


def test_files_of_two_programs_can_be_compared(tmp_path: Path) -> None:
    log = written.inspect_json(tmp_path / "log.json", ["C"] * 50)
    archive = written.inspect_eval(tmp_path / "log.eval", ["C"] * 50)
    assert judge_answers(log, archive, AnswerLimits(margin=0.1)).verdict == "pass"
