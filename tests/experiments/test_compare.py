"""The command that compares two runtimes, as a user runs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime_matrix.experiments.compare import main
from tests.conftest import ROOT
from tests.in_process import call

Compare = Callable[..., subprocess.CompletedProcess[str]]
FAKE = (
    "runtime=fake",
    "against=fake",
    "model=random",
    "benchmark=[latency]",
    "benchmark.latency.prompt_tokens=8",
    "benchmark.latency.new_tokens=4",
    "benchmark.latency.iterations=2",
    "agreement.enabled=false",
)
QUICK = (
    *("comparison.launches=2", "comparison.rounds=4", "comparison.prompt_tokens=8", "comparison.new_tokens=4"),
    *("comparison.one_thread_rounds=4", "comparison.warmup=1"),
)


@pytest.fixture
def compare(tmp_path: Path, artifacts: Path) -> Compare:
    """Return `python -m experiments.compare …`, writing below `tmp_path`."""

    def compare(*words: str) -> subprocess.CompletedProcess[str]:
        return call(main, [*words, f"artifacts_dir={artifacts}", f"results_dir={tmp_path / 'runs'}"])

    return compare


@pytest.mark.alone
def test_a_runtime_against_itself_has_an_interval(compare: Compare, tmp_path: Path) -> None:
    done = compare(*FAKE, *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fake against fake, random model, 2 launches:" in done.stdout
    found = r"(no difference larger than [\d.]+ %|[\d.]+× (faster|slower)) \[[\d.]+, [\d.]+\], wall time at \d+ threads"
    for phase in ("decode", "prefill", "request", "throughput"):
        assert re.search(rf"^  {phase} +{found}$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^  memory .* peak without imports$", done.stdout, re.MULTILINE), done.stdout
    assert "launch 2: decode" in done.stderr
    reference, candidate = sorted((tmp_path / "runs").glob("*/speed.json"))
    for speed in (reference, candidate):
        content = json.loads(speed.read_text())
        assert (content["against"], len(content["launches"])) == (reference.parent.name, 2)
    assert [path.parent for path in (tmp_path / "runs").glob("*/output_diff.json")] == [candidate.parent]


def test_an_unsupported_runtime_gives_exit_code_3_and_the_reason(compare: Compare, tmp_path: Path) -> None:
    done = compare(*FAKE, *QUICK, "runtime.engine.fault=unsupported")
    assert done.returncode == 3, done.stdout + done.stderr
    assert done.stdout.startswith("fake: unsupported: the fake runtime was told to be unsupported")
    assert list((tmp_path / "runs").glob("*/speed.json")) == []


def test_a_failing_runtime_gives_exit_code_1_and_the_reason(compare: Compare) -> None:
    done = compare(*FAKE, *QUICK, "runtime.engine.fault=error")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "fake: error: RuntimeError: the fake runtime was told to fail" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["runtime=fkae"], "did you mean 'fake'"),
        (["against=eagr"], "did you mean 'eager'"),
        (["-m", "runtime=fake,eager"], "compare takes two runtimes, not a sweep"),
        (["runtime=fake,eager"], "several values are a sweep: add -m"),
        (["--fast"], "--fast is not an option; known: cfg, config-dir, help, multirun"),
        (["--hlep"], "did you mean 'help'"),
        (["comparison.round=4"], "did you mean 'rounds'"),
        (["comparison.rounds=1"], "must be at least 2; found 1"),
        (["runtime=[fake"], "runtime=[fake: "),
    ],
)
def test_a_mistake_is_one_line_with_exit_code_2(compare: Compare, words: list[str], says: str) -> None:
    done = compare("model=random", "benchmark=[latency]", *words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_help_does_not_import_torch() -> None:
    code = "import sys, runtime_matrix.experiments.compare as c; assert c.main(['--help']) == 0"
    code += "; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "against=eager" in done.stdout
