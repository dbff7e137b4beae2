"""Comparisons and gates over launches whose times are given: the logic, without a process per launch."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime_matrix.experiments import compare, gate
from runtime_matrix.experiments.timing import interleave
from runtime_matrix.experiments.timing.runner import Runner
from runtime_matrix.experiments.timing.scripted import ScriptedLauncher
from tests.in_process import call

WORDS = ("runtime=fake", "against=fake", "model=random", "benchmark=[latency,memory]", "agreement.enabled=false")
SHAPE = ("benchmark.latency.prompt_tokens=8", "benchmark.latency.new_tokens=4", "benchmark.latency.iterations=2")
STEP_S = 0.002
Script = Callable[[Callable[[Runner, int], float]], ScriptedLauncher]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Return a function that makes every launch of the test one whose times it is given."""

    def script(step_s: Callable[[Runner, int], float]) -> ScriptedLauncher:
        launcher = ScriptedLauncher(step_s)
        monkeypatch.setattr(interleave, "launch", launcher)
        return launcher

    return script


def is_candidate(runner: Runner) -> bool:
    """Say whether a cell is the second of its run; both are the same runtime."""
    return "-01-" in runner.folder.name


def slower_by(share: float) -> Callable[[Runner, int], float]:
    return lambda runner, number: STEP_S * (1 + share if is_candidate(runner) else 1)


def compared(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return call(compare.main, [*WORDS, *SHAPE, *words, f"results_dir={tmp_path / 'runs'}"])


def gated(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "gate.yaml"
    path.write_text(
        "name: small\nconfirm: true\nconfirm_rebuilds: false\nalpha: 0.05\nindifferent: 0.02\nmust_find: 0.05\n"
        "interim_launches: [6, 10]\nreference: {speedup: {decode: 1.0}, outputs: []}\n"
        "baseline: {speedup: [decode], memory: {weight_bytes: 0}}\n"
    )
    return call(gate.main, [f"gate={path}", *WORDS, *words, f"results_dir={tmp_path / 'runs'}"])


def test_a_comparison_ends_when_its_interval_is_narrow(script: Script, tmp_path: Path) -> None:
    launcher = script(slower_by(0.25))
    done = compared(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert launcher.launches == 4  # the fewest of which an interval is no guess
    match = re.search(r"^  decode +([\d.]+)× slower \[([\d.]+), ([\d.]+)\], wall time", done.stdout, re.MULTILINE)
    assert match is not None, done.stdout
    assert float(match[2]) <= 1.25 <= float(match[3])
    assert float(match[1]) == pytest.approx(1.25, rel=0.01)


def test_a_comparison_of_launches_that_differ_goes_on_to_the_last(script: Script, tmp_path: Path) -> None:
    launcher = script(lambda runner, number: STEP_S * (1.3 if number % 2 and is_candidate(runner) else 1))
    done = compared(tmp_path, "comparison.most_launches=7")
    assert launcher.launches == 7
    assert "no difference larger than" in done.stdout


def test_every_row_of_a_batch_is_counted(script: Script, tmp_path: Path) -> None:
    script(slower_by(0.0))
    done = compared(tmp_path, "comparison.batch=2", "comparison.rounds=3", "comparison.launches=1")
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "runs").glob("*-01-*/speed.json")
    (launch,) = json.loads(path.read_text())["launches"]
    assert launch["tokens"]["rows"] == launch["tokens"]["same_rows"] == 2 * (3 + 30) + 8 * 3  # of the three blocks


@pytest.mark.parametrize(
    ("share", "code", "verdict", "launches"),
    [(0.0, 0, "pass", 6), (0.2, 1, "fail", 12)],  # a fail is measured once more, afresh
)
def test_a_gate_passes_and_fails_by_the_launches(
    script: Script, tmp_path: Path, share: float, code: int, verdict: str, launches: int
) -> None:
    launcher = script(slower_by(share))
    done = gated(tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert f"gate small: {verdict}" in done.stdout
    assert launcher.launches == launches
    content = json.loads((tmp_path / "runs" / "gate" / "verdict.json").read_text())
    assert content["was_repeated"] is (verdict == "fail")
    assert ("failed twice" in done.stdout) is (verdict == "fail")


@pytest.mark.slow
def test_a_fail_that_is_gone_when_repeated_is_a_pass(script: Script, tmp_path: Path) -> None:
    candidates: list[Path] = []

    def step_s(runner: Runner, number: int) -> float:
        if is_candidate(runner) and runner.folder not in candidates:
            candidates.append(runner.folder)
        return STEP_S * (1.2 if runner.folder in candidates[:1] else 1)  # the first one, and not its repetition

    script(step_s)
    done = gated(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed once, but not when repeated" in done.stdout


@pytest.mark.slow
def test_a_baseline_is_kept_and_judged_against(script: Script, tmp_path: Path) -> None:
    script(slower_by(0.0))
    kept = f"baseline={tmp_path / 'kept'}"
    made = gated(tmp_path, kept, "update=true")
    assert made.returncode == 0, made.stdout + made.stderr
    passed = gated(tmp_path, kept)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "baseline.speedup.decode" in passed.stdout
    script(slower_by(0.2))
    failed = gated(tmp_path, kept, "~gate.reference.speedup.decode")
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert re.search(r"fail +baseline.speedup.decode", failed.stdout), failed.stdout
