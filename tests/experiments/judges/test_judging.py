"""Kept replies, repeats, pairs in both orders, and judges without a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runtime_matrix.experiments.judges import rule
from runtime_matrix.experiments.judges.judge import Question
from runtime_matrix.experiments.judges.judging import known_verdicts
from runtime_matrix.experiments.judges.rule import RuleConfig
from runtime_matrix.experiments.tasks.judged import figures
from runtime_matrix.experiments.validation.scripted_judge import Scripted, ScriptedJudge, compared
from tests.experiments.judges.asking import config, judged, questions


def test_no_answered_call_is_paid_twice(tmp_path: Path) -> None:
    def script(prompt: str, number: int) -> Scripted:
        return Scripted(status=503) if number < 4 else Scripted("nonsense") if number < 6 else compared(prompt, number)

    path = tmp_path / "kept.sqlite"
    with ScriptedJudge(script) as judge:
        options = config(judge.url, tries=1, concurrency=1)
        first, _ = judged(options, questions(20), path)
        second, work = judged(options, questions(20), path)
        third, again = judged(options, questions(20), path)
    assert [verdict.failure for verdict in first] == ["call failed"] * 4 + ["unparsable"] * 2 + [None] * 14
    assert [verdict.failure for verdict in second] == [None] * 4 + ["unparsable"] * 2 + [None] * 14
    assert (work.kept, again.kept, second) == (16, 20, third)
    assert set(judge.answered.values()) == {1}
    assert judge.calls.total() == 24


@pytest.mark.parametrize("change", [{"model": "other"}, {"seed": 1}, {"max_new_tokens": 9}, {"template": "score"}])
def test_other_judges_and_options_share_no_replies(tmp_path: Path, change: dict[str, object]) -> None:
    with ScriptedJudge() as judge:
        judged(config(judge.url), questions(2), tmp_path / "kept.sqlite")
        _, work = judged(config(judge.url, **change), questions(2), tmp_path / "kept.sqlite")
    assert work.kept == 0


def test_equal_prompts_are_asked_once() -> None:
    twins = [replace(question, question="the same", answer="a", references=("b",)) for question in questions(5)]
    with ScriptedJudge() as judge:
        verdicts, work = judged(config(judge.url), twins)
    assert (judge.calls.total(), work.prompts, len(verdicts)) == (1, 1, 5)


def test_repeats_measure_how_often_the_verdict_is_the_same(tmp_path: Path) -> None:
    def script(prompt: str, number: int) -> Scripted:
        return Scripted('{"score": 2}') if number == 7 else Scripted("nonsense") if number == 8 else compared(prompt, 0)

    with ScriptedJudge(script) as judge:
        options = config(judge.url, repeats=3, concurrency=1)
        verdicts, _ = judged(options, questions(4), tmp_path / "kept.sqlite")
        again, work = judged(options, questions(4), tmp_path / "kept.sqlite")
        resumed, rest = judged(options, questions(4), tmp_path / "kept.sqlite", resumes=True)
    assert [len(verdict.repeats) for verdict in verdicts] == [2, 2, 2, 2]
    found = figures(verdicts, [verdict.id for verdict in verdicts])
    assert (found["judge_repeats"], found["judge_repeats_equal_ratio"]) == (7, 6 / 7)
    assert (work.kept, rest.kept) == (4, 12)  # repeats are asked again, unless a run resumes
    assert judge.calls.total() == 12 + 8
    assert all(verdict.repeats == (verdict.score, verdict.score) for verdict in (*again, *resumed))


def pairs(count: int) -> tuple[list[Question], dict[str, str]]:
    asked = [Question(f"q{at}", f"What is {at}?", "long answer" if at % 2 else "short", ("x",)) for at in range(count)]
    return asked, {question.id: "the rival" for question in asked}


def test_pairs_are_asked_in_both_orders() -> None:
    asked, rivals = pairs(6)
    rivals["q0"] = asked[0].answer
    del rivals["q5"]
    with ScriptedJudge() as judge:
        verdicts, work = judged(config(judge.url, template="pairwise"), asked, rivals=rivals)
    assert judge.calls.total() == 2 * 4
    assert [verdict.score for verdict in verdicts] == [0.5, 1.0, 0.0, 1.0, 0.0, None]
    assert [verdict.orders for verdict in verdicts[1:3]] == [(1.0, 1.0), (0.0, 0.0)]
    assert (work.equal_pairs, verdicts[5].reason) == (1, "there is no reference to judge by")
    found = figures(verdicts, [verdict.id for verdict in verdicts])
    assert (found["judge_position_flips_ratio"], found["judge_first_position_ratio"]) == (0.0, 0.5)
    assert (found["judge_agreement_kappa"], found["judge_score"]) == (None, 0.5)


def test_a_judge_that_prefers_the_first_answer_is_found_out() -> None:
    asked, rivals = pairs(8)
    with ScriptedJudge(lambda prompt, number: Scripted('{"winner": "A"}')) as judge:
        verdicts, _ = judged(config(judge.url, template="pairwise"), asked, rivals=rivals)
    found = figures(verdicts, [verdict.id for verdict in verdicts])
    assert (found["judge_score"], found["judge_position_flips_ratio"], found["judge_first_position_ratio"]) == (
        *(0.5, 1.0, 1.0),
    )


def test_a_pair_without_one_of_its_orders_has_no_verdict() -> None:
    asked, rivals = pairs(1)
    with ScriptedJudge(lambda prompt, number: Scripted('{"winner": "AB"}') if number else compared(prompt, 0)) as judge:
        (verdict,), _ = judged(config(judge.url, template="pairwise", concurrency=1), asked, rivals=rivals)
    assert (verdict.score, verdict.failure) == (None, "unparsable")


def test_a_judge_that_prefers_long_answers_is_found_out() -> None:
    asked = [Question(f"q{at}", f"What is {at}?", "x" * (1 + at), ("x",), is_right=at % 2 == 0) for at in range(40)]

    def script(prompt: str, number: int) -> Scripted:
        return Scripted(f'{{"score": {min(5, 1 + prompt.count("x") // 8)}}}')

    with ScriptedJudge(script) as judge:
        verdicts, _ = judged(config(judge.url, template="score"), asked)
        fair, _ = judged(config(judge.url, template="score", words={"a": 1.0, "b": 5.0}), asked)
    found = figures(verdicts, [verdict.id for verdict in verdicts])
    assert found["judge_length_correlation"] > 0.9
    assert found["judge_length_correlation_low"] > 0.5
    none = figures(fair, [verdict.id for verdict in fair])  # no reply begins with a word
    assert (none["judge_score"], none["judge_length_correlation"], none["judge_no_verdict"]) == (None, None, 40)


def test_braces_of_an_answer_fill_no_placeholder() -> None:
    question = Question("q", "{answer}", "{reference}", ("{question}",))
    with ScriptedJudge() as judge:
        judged(config(judge.url), [question])
    (prompt,) = judge.calls
    assert all(text in prompt for text in ("Task:\n{answer}", "Right answer:\n{question}", "grade:\n{reference}"))


@pytest.mark.parametrize(
    ("match", "scores"), [("words", [1, 1, 0, 0]), ("exact", [1, 0, 0, 0]), ("contains", [1, 1, 1, 0])]
)
def test_the_rule_compares_with_the_references(match: str, scores: list[int]) -> None:
    answers = ["Blue", "blue.", "a blue hat", "red"]
    asked = [Question(str(at), "?", answer, ("Blue",), True) for at, answer in enumerate(answers)]
    asked.append(Question("none", "?", "Blue", ()))
    verdicts = known_verdicts(rule.JUDGE, RuleConfig(match=match), asked)
    assert [verdict.score for verdict in verdicts] == [*scores, None]
    assert verdicts[-1].reason == "the item has no reference"


def test_agreement_is_none_with_its_reason_where_it_is_undefined() -> None:
    asked = [Question(str(at), "?", "Blue", ("Blue",), True) for at in range(4)]
    found = figures(known_verdicts(rule.JUDGE, RuleConfig(match="words"), asked), list("abcd"))
    assert (found["judge_agreement_kappa"], found["judge_agreement_ratio"]) == (None, 1.0)
    assert found["judge_agreement_reason"] == "all 4 answers are right for judge and benchmark alike"
