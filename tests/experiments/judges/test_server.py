"""A served judge that fails, lies, hangs or talks nonsense: what has no verdict is counted, and never 0."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.judges import server
from runtime_matrix.experiments.tasks.judged import figures
from runtime_matrix.experiments.validation.scripted_judge import Scripted, ScriptedJudge, compared
from tests.experiments.judges.asking import config, judged, questions

KEY = "sk-a-secret-of-the-user"


def test_verdicts_and_what_is_sent() -> None:
    with ScriptedJudge() as judge:
        verdicts, work = judged(config(judge.url), questions(6))
    assert [verdict.score for verdict in verdicts] == [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    assert [verdict.says_right for verdict in verdicts] == [verdict.is_right for verdict in verdicts]
    assert {(body["temperature"], body["seed"], body["model"]) for body in judge.bodies} == {(0.0, 0, "scripted")}
    assert (work.prompts, work.kept, work.failed_calls) == (6, 0, 0)
    assert verdicts[0].new_tokens == 2
    found = figures(verdicts, [verdict.id for verdict in verdicts])
    assert (found["judge_score"], found["judge_agreement_kappa"], found["judge_note"]) == (4 / 6, 1.0, None)


@pytest.mark.parametrize("concurrency", [1, 4, 16])
def test_concurrency_is_reached_and_never_exceeded(concurrency: int) -> None:
    with ScriptedJudge(delay_s=0.02 if concurrency == 1 else 0.5) as judge:  # long enough for a busy machine
        judged(config(judge.url, concurrency=concurrency), questions(40))
    assert judge.most_in_flight == concurrency


def test_a_fifth_of_the_calls_fails() -> None:
    asked = questions(40)
    failing = {question.question for question in asked[::5]}

    def script(prompt: str, number: int) -> Scripted:
        is_ill = any(f"{text}\n" in prompt for text in failing)
        return Scripted("out of order", status=500) if is_ill else compared(prompt, number)

    with ScriptedJudge(script) as judge:
        verdicts, work = judged(config(judge.url), asked)
    missing = [verdict for verdict in verdicts if verdict.score is None]
    assert [verdict.id for verdict in missing] == [question.id for question in asked[::5]]
    assert {(verdict.failure, verdict.reason) for verdict in missing} == {
        ("call failed", "HTTP 500: out of order after 2 tries")
    }
    assert (work.failed_calls, work.counters["retries"]) == (8, 8)
    found = figures(verdicts, [verdict.id for verdict in verdicts])
    right = [question.is_right for question in asked if question.question not in failing]
    assert found["judge_score"] == sum(map(bool, right)) / 32  # not of 40: a failed call is no 0
    assert (found["judge_items"], found["judge_no_verdict"]) == (32, 8)
    assert found["judge_note"] == (
        "the judge gave no verdict on 8 of 40 items: 8 call failed (HTTP 500: out of order after 2 tries)"
    )


LIES = {
    "not json": (Scripted(body=b"<html>gateway</html>"), "call failed", "the reply is not JSON"),
    "no choices": (Scripted(body=b'{"choices": []}'), "call failed", "the reply has no text"),
    "a list": (Scripted(body=b"[1, 2]"), "call failed", "the reply has no text"),
    "a text": (Scripted(body=b'{"choices": ["x"]}'), "call failed", "the reply has no text"),
    "a number": (Scripted(body=b'{"choices": [{"message": {"content": 5}}]}'), "call failed", "the reply has no text"),
    "error with 200": (Scripted(body=b'{"error": "ill"}'), "call failed", "an error with status 200: ill"),
    "closes": (Scripted(closes=True), "call failed", "the connection to"),
    "nonsense": (Scripted("The answer is lovely."), "unparsable", 'the reply has no JSON with "score"'),
    "cut": (Scripted('{"score": '), "unparsable", 'the reply has no JSON with "score"'),
    "two scores": (Scripted('{"score": 1} or {"score": 5}'), "unparsable", 'the reply has several "score"'),
    "a word": (Scripted('{"score": "high"}'), "unparsable", "the score is no number"),
    "true": (Scripted('{"score": true}'), "unparsable", "the score is no number"),
    "nan": (Scripted('{"score": NaN}'), "unparsable", "the score is no number"),
    "huge": (Scripted('{"score": 1e999}'), "unparsable", "the score is no number"),
    "six": (Scripted('{"score": 6}'), "out of range", "the score 6 is not from 1 to 5"),
    "zero": (Scripted('{"score": 0}'), "out of range", "the score 0 is not from 1 to 5"),
    "empty": (Scripted(""), "unparsable", 'the reply has no JSON with "score"'),
    "deep": (Scripted("{" * 5000), "unparsable", 'the reply has no JSON with "score"'),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_reply_without_a_verdict(lie: str) -> None:
    scripted, failure, reason = LIES[lie]
    with ScriptedJudge(lambda prompt, number: scripted) as judge:
        (verdict,), _ = judged(config(judge.url), questions(1))
    assert (verdict.score, verdict.says_right, verdict.failure) == (None, None, failure)
    assert (verdict.reason or "").startswith(reason)
    found = figures([verdict], [verdict.id])
    assert (found["judge_score"], found["judge_items"], found["judge_no_verdict"]) == (None, 0, 1)
    assert found["judge_note"].startswith("the judge gave no verdict on 1 of 1 items: 1 ")


def test_a_judge_that_hangs_meets_the_deadline() -> None:
    never = threading.Event()
    with ScriptedJudge(lambda prompt, number: Scripted(waits_for=never)) as judge:
        start_s = time.monotonic()
        (verdict,), _ = judged(config(judge.url, timeout_s=0.2, tries=5), questions(1))
        never.set()
    assert (verdict.failure, verdict.reason) == ("call failed", "no reply within 0.2 s")
    assert time.monotonic() - start_s < 2


def test_retry_after_is_heeded_within_the_deadline() -> None:
    times: list[float] = []

    def script(prompt: str, number: int) -> Scripted:
        times.append(time.monotonic())
        return Scripted("busy", 429, {"Retry-After": "0.3"}) if number == 0 else compared(prompt, number)

    with ScriptedJudge(script) as judge:
        (verdict,), _ = judged(config(judge.url), questions(1))
    assert verdict.score == 0.0
    assert times[1] - times[0] >= 0.3


def test_a_server_that_asks_to_wait_for_longer_than_the_deadline_fails_at_once() -> None:
    with ScriptedJudge(lambda prompt, number: Scripted("busy", 429, {"Retry-After": "3600"})) as judge:
        start_s = time.monotonic()
        (verdict,), _ = judged(config(judge.url), questions(1))
    assert (verdict.failure, verdict.reason) == ("call failed", "HTTP 429: busy")
    assert time.monotonic() - start_s < 2


def test_a_refused_key_ends_the_calls_and_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with ScriptedJudge(lambda prompt, number: Scripted(f"the key {KEY} is wrong", 401)) as judge:
        options = config(judge.url, key_variable="JUDGE_KEY", concurrency=2)
        verdicts, _ = judged(options, questions(20), tmp_path / "kept.sqlite")
    assert set(judge.keys) == {f"Bearer {KEY}"}
    assert judge.calls.total() <= 2
    assert {verdict.reason for verdict in verdicts} == {"HTTP 401: the key *** is wrong"}
    assert {verdict.failure for verdict in verdicts} == {"call failed", "not asked"}


def test_a_reply_that_repeats_the_key_is_kept_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with ScriptedJudge(lambda prompt, number: Scripted(f'{KEY} {{"score": 5}}')) as judge:
        options = config(judge.url, key_variable="JUDGE_KEY")
        (verdict,), _ = judged(options, questions(1), tmp_path / "kept.sqlite")
    assert verdict.replies == ('*** {"score": 5}',)
    assert not [path for path in tmp_path.iterdir() if KEY.encode() in path.read_bytes()]
    assert KEY not in repr(options)


def test_a_judge_that_is_gone_is_not_asked_for_every_item() -> None:
    with ScriptedJudge(lambda prompt, number: Scripted(closes=True)) as judge:
        verdicts, _ = judged(config(judge.url, tries=1, concurrency=4), questions(100))
    assert judge.calls.total() < 30
    last = verdicts[-1]
    assert (last.failure, last.score) == ("not asked", None)
    assert (last.reason or "").startswith("14 calls in a row had failed, the last: the connection to")


def test_unreported_tokens_are_unknown() -> None:
    with ScriptedJudge(lambda prompt, number: Scripted('{"score": 5}', has_usage=number != 1)) as judge:
        verdicts, _ = judged(config(judge.url, concurrency=1), questions(2))
    assert [verdict.new_tokens for verdict in verdicts] == [2, None]


MISTAKES = [
    ({"url": None}, "judge.url is missing: set judge.url=http://HOST:PORT"),
    ({"model": None}, "judge.model is missing: set judge.model=NAME, as the server calls it"),
    ({"url": "http://user:pw@host"}, "judge.url must not contain a password or a query"),
    ({"url": "ftp://host"}, "judge.url=ftp://host is no address such as http://localhost:8000"),
    ({"key_variable": "NO_SUCH_KEY"}, "judge.key_variable=NO_SUCH_KEY: the environment has no such variable"),
    ({"lowest": 5.0}, "judge.lowest=5 must be below judge.highest=5"),
    ({"right_from": 6.0}, "judge.right_from=6 must be above judge.lowest=1 and at most judge.highest=5"),
    ({"words": {"right": 9.0}}, "judge.words.right=9 must be a word with a score from 1 to 5"),
    ({"against": "/tmp"}, "judge.against=/tmp would be ignored"),
    ({"against": "/no/such", "template": "pairwise"}, "judge.against=/no/such is no folder: give that of a record"),
    ({"template": "refrence"}, "judge.template=refrence is no file and no template; did you mean 'reference'?"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES)
def test_mistakes_are_one_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as raised:
        server.JUDGE.check(config("http://127.0.0.1:9", **change))
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_an_unreachable_judge_is_one_line() -> None:
    with ScriptedJudge() as judge:
        url = judge.url
        server.JUDGE.check(config(url))
    with pytest.raises(UserError) as raised:
        server.JUDGE.check(config(url))
    assert str(raised.value) == (
        f"judge.url={url}: no server answers (Connection refused): start it, or correct the address"
    )
