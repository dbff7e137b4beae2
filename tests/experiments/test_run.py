"""The command as a user runs it: sweeps with failing cells, resume, mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

Run = Callable[..., subprocess.CompletedProcess[str]]
QUICK = (
    "model=random",
    "benchmark=[latency]",
    "benchmark.latency.prompt_tokens=8",
    "benchmark.latency.new_tokens=4",
    "benchmark.latency.iterations=2",
    "model.architecture.num_hidden_layers=2",
    "comparison.launches=1",
)
FAKE = ("runtime=fake", "runtime@reference=fake", "model=random", "benchmark=[latency]", "comparison.enabled=false")


def records(tmp_path: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted((tmp_path / "runs").glob("*/record.json"))]


def test_two_runtimes_agree_and_are_recorded(run: Run, tmp_path: Path) -> None:
    done = run("-m", "runtime=eager,onnxruntime", *QUICK, "comparison.enabled=false")
    assert done.returncode == 0, done.stdout + done.stderr
    found = records(tmp_path)
    assert [record["status"] for record in found] == ["ok", "ok"]
    for record in found:
        by_name = {entry["benchmark"]: entry for entry in record["benchmarks"]}  # type: ignore[attr-defined]
        assert by_name["agreement"]["figures"]["max_logit_difference"] < 1e-3
        assert len(by_name["latency"]["samples"]["ttft_s"]) == 2
        assert len(by_name["latency"]["samples"]["tpot_s"]) == 2 * 3
        assert record["jobs_cpu_s"].keys() == record["jobs"].keys()  # type: ignore[attr-defined]
        assert record["jobs_cpu_s"]["measure"] > 0.5  # type: ignore[index]  # it imports pytest and loads a model
        assert record["replay"] == {"tokens": 4, "same_top_tokens": 4, "max_logprob_gap": 0.0}


def test_every_way_to_fail_is_a_row(run: Run, tmp_path: Path) -> None:
    done = run("-m", *FAKE, "agreement.enabled=false", "time_limit_s=15",
               "runtime.engine.fault=segfault,hang,out_of_memory,unsupported,error,not_finite,none")  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    statuses = {r["config"]["runtime"]["engine"]["fault"]: r["status"] for r in records(tmp_path)}  # type: ignore[index]
    assert statuses == {
        "segfault": "crash",
        "hang": "timeout",
        "out_of_memory": "out_of_memory",
        "unsupported": "unsupported",
        "error": "error",
        "not_finite": "error",
        "none": "ok",
    }
    assert "SIGSEGV" in done.stdout
    assert "error: FloatingPointError: the runtime's logits are not finite (NaN) at a timed step" in done.stdout
    assert f"page: {tmp_path / 'runs' / 'report.html'}" in done.stdout
    page = (tmp_path / "runs" / "report.html").read_text()
    assert all(f'class="status {status}"' in page for status in statuses.values())


def test_a_failed_reference_is_in_the_record_and_its_output_in_the_folder(run: Run, tmp_path: Path) -> None:
    done = run(*FAKE, "runtime@reference=fake", "reference.engine.fault=segfault")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = records(tmp_path)
    assert record["failures"] == [
        {"job": "reference", "status": "crash", "reason": "killed by SIGSEGV; see output.log"},
    ]
    (log,) = (tmp_path / "runs").glob("*/output.log")
    assert "Segmentation fault" in log.read_text()


def test_a_skipped_benchmark_leaves_the_others(run: Run, tmp_path: Path) -> None:
    done = run("runtime=fake", "model=random", "benchmark=[memory,perplexity]", "agreement.enabled=false")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = records(tmp_path)
    entries: Any = record["benchmarks"]
    assert {entry["benchmark"]: entry["status"] for entry in entries} == {"memory": "ok", "perplexity": "skipped"}
    assert (tmp_path / "runs" / str(record["record_id"]) / "pytest-benchmark.json").exists()


def test_the_hardware_peak_is_measured_once_for_all_cells(
    run: Run, tmp_path: Path, hardware_peaks: dict[frozenset[str], object]
) -> None:
    hardware_peaks.clear()
    done = run("-m", *FAKE, "agreement.enabled=false", "runtime.engine.token_s=0.001,0.002")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count(": hardware peak\n") == 1
    first, second = records(tmp_path)
    peak = first["hardware_peak"]
    assert peak == second["hardware_peak"]
    assert list(peak["flops_per_s"]) == ["float32"]  # type: ignore[index]
    assert peak["wall_s"] <= 3  # type: ignore[index]
    assert ("hardware_peak" in first["jobs"], "hardware_peak" in second["jobs"]) == (True, False)  # type: ignore[operator]
    assert not list(tmp_path.rglob("ceilings.json"))


def test_options_of_a_surrounding_pytest_do_not_reach_a_cell(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--benchmark-disable")
    done = run(*FAKE, "agreement.enabled=false")
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_hardware_peak_where_nothing_is_timed(run: Run, tmp_path: Path) -> None:
    done = run(*FAKE[:-1], "benchmark=[memory]", "agreement.enabled=false")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = records(tmp_path)
    assert record["hardware_peak"] is None
    assert "hardware peak" not in done.stderr


def test_a_failing_exporter_fails_no_cell(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client", reason="needs the extra monitoring")
    (tmp_path / "file").touch()
    done = run(*FAKE, "agreement.enabled=false", f"monitoring.prometheus_file={tmp_path / 'file' / 'no.prom'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("prometheus exporter disabled: ") == 1
    (record,) = records(tmp_path)
    assert record["jobs"]["measure"] > 0  # type: ignore[index]
    assert record["memory_trace"]["samples"]  # type: ignore[index]


def test_exit_code_3_if_nothing_could_be_measured(run: Run) -> None:
    done = run("hw=a100", *QUICK)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "hw=a100 needs 1 CUDA device named A100 with 80 GB; found no CUDA device" in done.stdout
    words = "runtime.dtype=bfloat16 runtime/weights=full batch_size=16"  # of the profile
    assert f"hw=a100 recommends {words}; hw.apply=true applies it\n" in done.stderr


def test_a_resumed_sweep_measures_no_cell_twice(run: Run, tmp_path: Path) -> None:
    sweep = ("-m", *FAKE, "agreement.enabled=false", "benchmark.latency.iterations=2", "resume=true")
    assert run(*sweep, "runtime.engine.token_s=0.0,0.001").returncode == 0
    again = run(*sweep, "runtime.engine.token_s=0.0,0.001,0.002")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stderr.count("recorded earlier") == 2
    assert len(records(tmp_path)) == 3


@pytest.mark.slow
def test_a_killed_run_resumes_without_measuring_a_cell_twice(run: Run, tmp_path: Path, artifacts: Path) -> None:
    sweep = ("-m", *FAKE, "runtime.engine.token_s=0.001,0.002,0.003", "benchmark.latency.iterations=5", "resume=true")
    given = [*sweep, f"results_dir={tmp_path / 'runs'}", f"artifacts_dir={artifacts}"]
    parent = subprocess.Popen([sys.executable, "-m", "experiments.run", *given], cwd=ROOT, stderr=subprocess.DEVNULL)
    while not records(tmp_path):
        time.sleep(0.05)
    time.sleep(0.4)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    done = run(*sweep)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "recorded earlier" in done.stderr
    again = run(*sweep)
    assert again.stderr.count("recorded earlier") == 3
    ok = [record["config_hash"] for record in records(tmp_path) if record["status"] == "ok"]
    assert len(ok) == len(set(ok)) == 3


@pytest.mark.slow
def test_an_engine_that_was_edited_is_measured_again(
    fresh_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from runtime_matrix.runtimes.engines.fake import Fake\nclass Mine(Fake):\n    pass\n"
    (tmp_path / "my_engine.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    words = ("runtime=custom", "runtime.engine.target=my_engine:Mine", "model=random", "benchmark=[memory]")
    mine = (*words, "agreement.enabled=false", "resume=true")
    assert fresh_run(*mine).returncode == 0
    assert "recorded earlier" in fresh_run(*mine).stderr
    (tmp_path / "my_engine.py").write_text("raise ValueError('broken now')\n")
    broken = fresh_run(*mine)
    assert broken.returncode == 1
    assert "error: ValueError: broken now" in broken.stdout


@pytest.mark.slow
def test_a_sweep_runs_in_slices(run: Run, tmp_path: Path) -> None:
    sweep = ("-m", *FAKE, "seed=1,2,3", "stop_after_s=0", "resume=true")
    done = run(*sweep)
    assert done.returncode == 3  # nothing was measured yet
    assert "3 cells are left; the same command with resume=true continues" in done.stdout
    assert records(tmp_path) == []
    whole = run(*(word for word in sweep if word != "stop_after_s=0"))
    assert whole.returncode == 0
    again = run(*sweep)  # what is recorded needs no time
    assert again.returncode == 0
    assert "cells are left" not in again.stdout


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["runtime=eagr"], "did you mean 'eager'"),
        (["modle=bundled"], "did you mean 'model'"),
        (["runtime.dtyp=float32"], "did you mean 'dtype'"),
        (["+batch_sze=4"], "batch_sze is not a known key"),
        (["benchmark.latency.batch=[0]"], "must be at least 1; found 0"),
        (["benchmark.latency.iterations=-3"], "must be at least 1; found -3"),
        (["benchmark.latency.iterations=many"], "must be of the type int; found 'many'"),
        (["runtime.dtype=float23"], "did you mean 'float32'"),
        (["benchmark=[]"], "no benchmark is chosen"),
        (["model=local"], "model.path"),
        (["model.path=."], "model.path belongs to model=local; model=bundled would ignore it: add model=local"),
        (["model.id=a/b"], "model.id belongs to model=hub"),
        (["model=random", "model.path=."], "model.path belongs to model=local"),
        (["model.seed=3"], "model.seed belongs to model=random"),
        (["generation.draft_model=."], "add generation.speculate=draft"),
        (["model=local", "model.path=/nowhere"], "is not a folder"),
        (["model=random", "benchmark.latency.prompt_tokens=2000"], "exceed the model's context of 1024"),
        (["results_dir=/proc/nowhere", "model=random"], "cannot be written"),
        (["artifacts_dir=/proc/nowhere", "model=random"], "artifacts_dir=/proc/nowhere cannot be written"),
        (["-m", "hydra/launcher=joblib", "runtime=eager,fake"], "Hydra's launchers cannot be used"),
    ],
)
def test_a_mistake_is_one_line_with_exit_code_2(run: Run, overrides: list[str], says: str) -> None:
    done = run(*overrides)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_help_does_not_import_torch() -> None:
    code = "import sys, runtime_matrix.experiments.run as r\n"
    code += "sys.argv[1:] = ['--help']\ntry: r.main()\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "GROUP=OPTION" in done.stdout


@pytest.mark.slow
def test_a_hub_model_is_found_in_the_local_cache_without_a_network(
    fresh_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from runtime_matrix.experiments.cells.data import BUNDLED

    kept = tmp_path / "hub" / "models--someone--small"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("abc123")
    shutil.copytree(BUNDLED / "model", kept / "snapshots" / "abc123")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = ("benchmark=[perplexity]", "benchmark.perplexity.limit=2", "model=hub")
    done = fresh_run(*asked, "model.id=someone/small")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = records(tmp_path)
    assert record["model"]["name"] == "someone--small"  # type: ignore[index]
    missing = fresh_run(*asked, "model.id=someone/else")
    assert missing.returncode == 2
    assert "model.id=someone/else" in missing.stderr


def test_ctrl_c_leaves_a_record_and_exit_code_130(tmp_path: Path, artifacts: Path) -> None:
    given = [*FAKE, "agreement.enabled=false", "runtime.engine.fault=hang", f"results_dir={tmp_path / 'runs'}"]
    command = [sys.executable, "-m", "experiments.run", *given, f"artifacts_dir={artifacts}"]
    # What a shell starts in the background ignores Ctrl-C, and hands that on: to the tests, and to what they start.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    parent = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    assert parent.stderr is not None
    while "latency" not in parent.stderr.readline():
        pass
    parent.send_signal(signal.SIGINT)
    _, errors = parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert "Traceback" not in errors
    assert [record["status"] for record in records(tmp_path)] == ["interrupted"]
