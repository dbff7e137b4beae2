"""A judge as a user runs it: columns and a file of verdicts, a resume after a kill, and one line for a mistake."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime_matrix.experiments import report
from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.store import read_results
from runtime_matrix.experiments.run import main
from runtime_matrix.experiments.validation.scripted_judge import Scripted, ScriptedJudge, compared
from tests.conftest import ROOT
from tests.experiments.kills import MARK, processes
from tests.in_process import call

FAST = ("hw.threads=1", "agreement.enabled=false", "comparison.enabled=false", "monitoring=[]", "progress=false")
KEY = "sk-a-secret-of-the-user"


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return call(main, [*FAST, f"results_dir={folder}", *words])


def served(judge: ScriptedJudge, *words: str) -> list[str]:
    return ["judge=server", f"judge.url={judge.url}", "judge.model=scripted", *words]


def entries(folder: Path) -> dict[str, JsonObject]:
    """Return the entries of the only record that is ok by benchmark, each with its verdicts."""
    records = {path: json.loads(path.read_text()) for path in folder.glob("*/record.json")}
    ((path, record),) = [(path, record) for path, record in records.items() if record["status"] == "ok"]
    found = {entry["benchmark"]: entry for entry in record["benchmarks"]}
    for entry in found.values():
        lines = (path.parent / entry["parameters"]["verdicts_file"]).read_text().splitlines()
        entry["verdicts"] = [json.loads(line) for line in lines]
    return found


def test_the_benchmarks_of_texts_are_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The fork server starts before the key is exported.
    assert run(tmp_path / "before", "benchmark=[perplexity]", "limit=1").returncode == 0
    monkeypatch.setenv("JUDGE_KEY", KEY)

    def script(prompt: str, number: int) -> Scripted:
        return Scripted("ill", status=400) if number == 0 else compared(prompt, number)

    with ScriptedJudge(script) as judge:
        words = served(judge, "judge.key_variable=JUDGE_KEY", "judge.concurrency=1", "limit=6")
        done = run(tmp_path / "judged", "benchmark=[extractive_qa,summarization,free_form]", *words)
    assert done.returncode == 0, done.stderr
    assert set(judge.keys) == {f"Bearer {KEY}"}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert KEY not in done.stdout + done.stderr
    found = entries(tmp_path / "judged")
    assert {name: len(entry["verdicts"]) for name, entry in found.items()} == dict.fromkeys(found, 6)
    (row,) = rows(read_results(tmp_path / "judged")[0])
    assert row["qa_judge_no_verdict"] == 1
    assert row["qa_judge_items"] == 5
    assert row["free_form_judge_score"] == row["qa_judge_score"] or row["free_form_judge_items"] == 6
    assert row["rouge_judge_agreement_kappa"] is None  # no truth is known
    assert row["rouge_judge_score"] is not None
    assert row.judge_note is not None
    assert "no verdict on 1 of 6 items: 1 call failed (HTTP 400: ill)" in row.judge_note
    assert row.judge_note in done.stdout.replace("\n", " ")


def test_a_killed_run_pays_for_no_answered_call_twice(tmp_path: Path) -> None:
    gone = threading.Event()

    def script(prompt: str, number: int) -> Scripted:
        is_held = number >= 12 and not gone.is_set()
        return Scripted(waits_for=gone, closes=True) if is_held else compared(prompt, number)

    with ScriptedJudge(script) as judge:
        words = [*served(judge, "judge.concurrency=4"), "benchmark=[extractive_qa]", "limit=30", *FAST]
        words += [f"results_dir={tmp_path / 'runs'}", f"artifacts_dir={tmp_path / 'artifacts'}"]
        command = [sys.executable, "-m", "experiments.run", *words]
        marked = os.environ | {MARK: tmp_path.name}
        process = subprocess.Popen(command, cwd=ROOT, env=marked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await_(lambda: judge.in_flight == 4 and kept(tmp_path / "artifacts" / "judge.sqlite") == 12)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        await_(lambda: not processes(tmp_path.name))
        gone.set()
        await_(lambda: judge.in_flight == 0)
        subprocess.run([*command, "resume=true"], cwd=ROOT, check=True, capture_output=True, timeout=200)
    assert set(judge.answered.values()) <= {0, 1}
    assert judge.answered.total() == 30
    (entry,) = entries(tmp_path / "runs").values()
    assert (entry["figures"]["judge_kept_replies"], entry["figures"]["judge_calls"]) == (12, 18)
    assert entry["figures"]["judge_items"] == 30


def await_(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def kept(path: Path) -> int:
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            (count,) = database.execute("SELECT count(*) FROM replies").fetchone()
            return int(count)
    except sqlite3.OperationalError:  # the table is being made
        return 0


def test_a_rule_beside_a_served_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedJudge() as judge:
        done = run(tmp_path, "benchmark=[extractive_qa]", "limit=12", "-m", "judge=rule,server", *served(judge)[1:])
        assert done.returncode == 2  # rule has no address
        assert run(tmp_path, "benchmark=[extractive_qa]", "limit=12", "judge=rule").returncode == 0
        assert run(tmp_path, "benchmark=[extractive_qa]", "limit=12", *served(judge)).returncode == 0
    assert report.main([str(tmp_path), "--judges", "rule", "server"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("extractive_qa, 12 answers that both judged: κ ")
    assert report.main([str(tmp_path), "--judges", "rule", "sevrer"]) == 2
    assert (
        "has no cell sevrer; known: eager, eager-bundled, eager-bundled-auto-rule, eager-bundled-auto-server"
        in capsys.readouterr().err
    )


def test_a_judge_for_nothing_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "benchmark=[latency]", "judge=rule")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "error: judge=rule would be ignored: add a benchmark whose answers it judges, as in "
        "'benchmark=[extractive_qa]'; there are extractive_qa, summarization, free_form"
    )
