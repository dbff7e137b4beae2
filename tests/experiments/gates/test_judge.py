"""For each axis a limit that holds, one that is broken, one of which too little is known; and what messages say."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from experiments.compose import compose_gate
from experiments.errors import UserError
from experiments.gates.judge import Finding, Measured, findings, loss_verdict, overall
from experiments.gates.limits import GateConfig
from experiments.gates.measure import confirmed
from experiments.measurement.paired import loss
from experiments.strict import build

SHAPE = {
    **{"schema_version": 1, "run_id": "r", "hw": {"name": "cpu", "threads": 1}, "is_reference": False},
    **{"environment": {}, "config": {}, "started_at": "2026-01-01T00:00:00+00:00", "command": ""},
}
MIB = 2**20


def gate(*words: str) -> GateConfig:
    made: GateConfig = build(GateConfig, compose_gate("ci", [f"gate.{word}" for word in words]), "gate")
    return made


def launches(slower: float, count: int = 20, noise: float = 0.01) -> list[dict[str, Any]]:
    drawn, made = random.Random(1), []
    for _ in range(count):
        mine = (1 + slower) * math.exp(drawn.gauss(0, noise))
        times = {name: {clock: [seconds] * 3 for clock in ("cpu_s", "wall_s")} for name, seconds in ONE.items()}
        mines = {name: {clock: [mine * s for s in of[clock]] for clock in of} for name, of in times.items()}
        memory = {"peak_host_bytes": 1, "peak_device_bytes": None}
        made.append({"candidate": mines, "reference": times, "candidate_memory": memory, "reference_memory": memory})
    return [one | {"load_1min": 0.0} for one in made]


ONE = {"decode": 0.002, "prefill": 0.01}


def record(name: str, slower: float | None = 0.0, **changes: Any) -> dict[str, Any]:
    benchmarks = [
        {"benchmark": "memory", "status": "ok", "figures": {"peak_host_bytes": 100 * MIB, "peak_device_bytes": None}},
        {"benchmark": "latency", "status": "ok", "figures": {"first_call_s": 1.0}},
        {"benchmark": "multiple_choice", "status": "ok", "figures": {}, "items_file": "items-multiple_choice.jsonl"},
        {"benchmark": "code", "status": "ok", "figures": {"new_tokens": 500}, "items_file": "items-code.jsonl"},
    ]
    blank = {"items_file": None, "counters": {"graph_breaks": 0, "recompiles": 2}, "samples": {}, "parameters": {}}
    made = {
        **SHAPE,
        "record_id": name,
        "config_hash": name,
        "environment_hash": "e",
        "runtime": {"name": name, "engine": name, "weights": "full", "placement": "device", "dtype": "float32"},
        "model": {"name": "m", "digest": "d"},
        "status": "ok",
        "reason": None,
        "load": {"phases_s": {"weights": 2.0}, "weight_bytes": 4 * MIB, "weight_disk_bytes": None, "device": "cpu"},
        "benchmarks": [blank | entry for entry in benchmarks],
        "speed": None if slower is None else {"launches": launches(slower)},
        "replay": None,
    }
    return made | changes


def write_items(folder: Path, lost: int = 0, n: int = 1000, probability_drop: float = 0.0) -> Path:
    """Answers to questions of which the first `lost` are wrong, and right with a probability that has dropped."""
    folder.mkdir(exist_ok=True)
    right = math.log(0.7 - probability_drop), math.log(0.3 + probability_drop)
    lines = [
        {"id": f"q{i}", "answer": 0, "predicted": int(i < lost), "is_right": i >= lost, "logprobs": right}
        for i in range(n)
    ]
    (folder / "items-multiple_choice.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    codes = [{"id": f"c{i}", "sample": 0, "is_right": i % 2 == 0} for i in range(n)]
    (folder / "items-code.jsonl").write_text("".join(json.dumps(line) + "\n" for line in codes))
    return folder


def baseline(**changes: Any) -> dict[str, Any]:
    items = {f"q{i}": 1.0 for i in range(1000)}
    made = {
        "cell": "mine",
        "memory": {"weight_bytes": 4 * MIB, "peak_host_bytes": 100 * MIB},
        "load": {"load_s": 2.0, "first_call_s": 1.0},
        "counts": {"graph_breaks": 0, "recompiles": 2, "tokens": 500},
        "speed": {"log_ratios": {"decode": [0.01, -0.01] * 10, "prefill": [0.01, -0.01] * 10}},
        "accuracy": {"multiple_choice": {"scores": items, "probabilities": dict.fromkeys(items, 0.7)}},
    }
    return made | changes


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    mine, theirs = write_items(tmp_path / "mine"), write_items(tmp_path / "theirs")
    return Measured("mine", record("mine"), mine, record("eager"), theirs, None)


LIMITS = gate("reference.accuracy={multiple_choice: 0.03}", "baseline.accuracy={multiple_choice: 0.03}")
LIMITS = replace(LIMITS, reference=replace(LIMITS.reference, accuracy={"multiple_choice": 0.03}))
LIMITS = replace(LIMITS, baseline=replace(LIMITS.baseline, accuracy={"multiple_choice": 0.03}))


def found(one: Measured, limits: GateConfig = LIMITS) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings(one, limits, 0.99)}


def test_what_holds_passes(measured: Measured) -> None:
    seen = found(replace(measured, baseline=baseline()))
    assert {finding.verdict for finding in seen.values()} == {"pass"}, seen
    assert len(seen) == 2 + 1 + 2 + 2 + 2 + 1 + 3
    assert overall(list(seen.values())) == "pass"


def test_speed_that_is_lost_fails_and_says_by_how_much(measured: Measured) -> None:
    seen = found(replace(measured, record=record("mine", slower=0.08)))["reference.speedup.decode"]
    assert seen.verdict == "fail"
    assert "8.2 % too slow" in seen.message  # 8 %, and what is left of the noise
    assert "profile decode" in seen.message
    assert "gate.reference.speedup.decode=" in seen.message
    assert seen.value == pytest.approx(1 / 1.08, rel=0.01)


def test_a_speed_that_was_promised_is_held_to(measured: Measured) -> None:
    limits = replace(LIMITS, reference=replace(LIMITS.reference, speedup={"decode": 2.0}))
    twice = replace(measured, record=record("mine", slower=-0.5))
    assert found(twice, limits)["reference.speedup.decode"].verdict == "pass"
    assert found(measured, limits)["reference.speedup.decode"].verdict == "fail"


def test_a_message_says_what_was_shown(measured: Measured) -> None:
    """W5 of the audit: a gate of one number, 4 %, failed at 3 % and said "within 4 %"."""
    said = {}
    for slower in (0.0, 0.03, 0.04, 0.08):
        seen = found(replace(measured, record=record("mine", slower=slower)))["reference.speedup.decode"]
        said[slower] = (seen.verdict, seen.message)
    assert said[0.0][0] == "pass"
    assert "shown to lose less than 5 %" in said[0.0][1]
    assert said[0.03][0] == "pass"
    assert said[0.04][0] == "fail"
    assert "too slow [" in said[0.08][1]
    assert "more than the indifferent 2 %; profile decode" in said[0.08][1]


def test_noise_that_hides_the_difference_is_inconclusive(measured: Measured) -> None:
    noisy = record("mine") | {"speed": {"launches": launches(0.0, noise=0.3)}}
    seen = found(replace(measured, record=noisy))["reference.speedup.decode"]
    assert seen.verdict == "inconclusive"
    assert "neither shown to lose more than 2 % nor less than 5 %" in seen.message
    assert "a quieter machine, more gate.looks or a wider gate.must_find" in seen.message


def test_no_launches_never_pass(measured: Measured) -> None:
    dead = record("mine") | {"speed": {"launches": [], "reason": "crash: ended with exit code -11"}}
    for one in (record("mine", slower=None), dead):
        seen = found(replace(measured, record=one))["reference.speedup.decode"]
        assert seen.verdict == "inconclusive"
    assert "exit code -11" in seen.message


@pytest.mark.parametrize(
    ("key", "value", "limit"),
    [
        ("memory", {"weight_bytes": 4 * MIB - 1, "peak_host_bytes": 100 * MIB}, "baseline.memory.weight_bytes"),
        ("memory", {"weight_bytes": 4 * MIB, "peak_host_bytes": 80 * MIB}, "baseline.memory.peak_host_bytes"),
        ("load", {"load_s": 0.5, "first_call_s": 1.0}, "baseline.load.load_s"),
        ("counts", {"graph_breaks": 0, "recompiles": 1, "tokens": 500}, "baseline.counts.recompiles"),
        ("counts", {"graph_breaks": 0, "recompiles": 2, "tokens": 501}, "baseline.counts.tokens"),
    ],
)
def test_what_grew_over_the_baseline_fails(measured: Measured, key: str, value: dict[str, int], limit: str) -> None:
    seen = found(replace(measured, baseline=baseline(**{key: value})))
    assert [name for name, finding in seen.items() if finding.verdict != "pass"] == [limit]
    assert seen[limit].verdict == "fail"
    assert "update=true" in seen[limit].message


def test_a_count_that_is_not_kept_any_more_is_inconclusive(measured: Measured) -> None:
    counts = {"graph_breaks": 0, "recompiles": 2, "tokens": 500, "fallback_nodes": 3}
    seen = found(replace(measured, baseline=baseline(counts=counts)))
    assert seen["baseline.counts.fallback_nodes"].verdict == "inconclusive"


def test_the_memory_limit_against_the_reference(measured: Measured) -> None:
    limits = replace(LIMITS, reference=replace(LIMITS.reference, memory={"peak_host_bytes": 0.1}))
    assert found(measured, limits)["reference.memory.peak_host_bytes"].verdict == "pass"
    larger = record("mine")
    larger["benchmarks"][0]["figures"]["peak_host_bytes"] = 111 * MIB
    seen = found(replace(measured, record=larger), limits)["reference.memory.peak_host_bytes"]
    assert seen.verdict == "fail"
    assert "11.0 %" in seen.message
    assert "raise gate.reference.memory.peak_host_bytes" in seen.message


def test_answers_that_are_lost_fail(measured: Measured, tmp_path: Path) -> None:
    write_items(tmp_path / "mine", lost=60)
    seen = found(measured)["reference.accuracy.multiple_choice"]
    assert seen.verdict == "fail"
    assert "loses 6 points" in seen.message
    assert "items-multiple_choice.jsonl" in seen.message


def test_few_items_say_how_many_would_tell(measured: Measured, tmp_path: Path) -> None:
    for name in ("mine", "theirs"):
        write_items(tmp_path / name, n=100)
    seen = found(measured)["reference.accuracy.multiple_choice"]
    assert seen.n == 100
    assert seen.verdict == "inconclusive"  # nothing lost in 100 items leaves more than three points open
    assert "about 177 items like these would tell" in seen.message


def test_the_right_choice_s_probability_never_decides(measured: Measured, tmp_path: Path) -> None:
    """Answers are lost by near ties, where the probability hardly moves: by it, a third of wrong runtimes passed."""
    for name, wrong in (("mine", range(15)), ("theirs", range(15, 30))):
        path = write_items(tmp_path / name, n=300) / "items-multiple_choice.jsonl"
        items = [json.loads(line) for line in path.read_text().splitlines()]
        items = [item | {"is_right": index not in wrong} for index, item in enumerate(items)]
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
    seen = found(measured)["reference.accuracy.multiple_choice"]
    assert seen.verdict == "inconclusive"
    assert "the right choice's probability fell by 0 points" in seen.message


@pytest.mark.parametrize("n", [400, 1060])
@pytest.mark.parametrize("true_loss", [0.03, 0.036])
def test_an_accuracy_beyond_the_margin_passes_as_rarely_as_promised(n: int, true_loss: float) -> None:
    drawn, level, passes, runs = np.random.default_rng(0), 1 - 0.05 / 7, 0, 1000
    for _ in range(runs):
        fates = drawn.choice([1.0, -1.0, 0.0], n, p=[true_loss + 0.01, 0.01, 0.99 - true_loss - 0.01])
        reference = np.where(fates == 0, 1.0, fates == 1)
        seen = loss((reference - fates).tolist(), reference.tolist(), None, 2 * level - 1)
        passes += loss_verdict(seen, 0.03) == "pass"
    assert passes <= stats.binom.ppf(0.999, runs, 1 - level)  # at the margin itself, 1 % of 1,000 may be chance


def test_a_benchmark_that_did_not_run_never_passes(measured: Measured) -> None:
    skipped = record("mine")
    skipped["benchmarks"][2] |= {"status": "skipped", "reason": "the model has no tokenizer"}
    seen = found(replace(measured, record=skipped))["reference.accuracy.multiple_choice"]
    assert seen.verdict == "inconclusive"
    assert "the model has no tokenizer" in seen.message


@pytest.mark.parametrize(
    ("status", "verdict"), [("unsupported", "inconclusive"), ("crash", "fail"), ("timeout", "fail")]
)
def test_a_cell_that_was_not_measured_never_passes(measured: Measured, status: str, verdict: str) -> None:
    one = replace(measured, record=record("mine", status=status, reason="why it was not"))
    (seen,) = findings(one, LIMITS, 0.99)
    assert (seen.verdict, seen.name) == (verdict, "cell")
    assert "why it was not" in seen.message
    assert overall([seen]) == verdict


def test_nothing_judged_is_inconclusive() -> None:
    assert overall([]) == "inconclusive"


def test_other_items_than_the_baseline_s_are_a_mistake(measured: Measured) -> None:
    kept = {"multiple_choice": {"scores": {"q0": 1.0}, "probabilities": {"q0": 0.7}}}
    with pytest.raises(UserError, match="other items of multiple_choice"):
        found(replace(measured, baseline=baseline(accuracy=kept)))


def test_a_fail_counts_when_it_is_repeated() -> None:
    first = [
        Finding("c", "a", "fail", "a: 9 % too slow"),
        Finding("c", "b", "pass", "b"),
        Finding("c", "z", "fail", "z"),
    ]
    second = [
        Finding("c", "a", "fail", "a: 8 % too slow"),
        Finding("c", "b", "fail", "b"),
        Finding("c", "z", "pass", "ok"),
    ]
    seen = {one.name: one for one in confirmed(first, second)}
    assert [seen[name].verdict for name in "abz"] == ["fail", "pass", "pass"]
    assert "failed twice" in seen["a"].message
    assert "9 % too slow" in seen["a"].message
    assert "not in a fresh repetition" in seen["z"].message
    missing = confirmed([Finding("c", "cell", "fail", "crash")], [Finding("c", "a", "pass", "a")])
    assert overall(missing) == "inconclusive"
