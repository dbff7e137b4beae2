"""`reproduce` with launches whose times are given: the verdicts, the exit codes, and users' mistakes."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime_matrix.experiments import compare, reproduce
from runtime_matrix.experiments.records.processor import describe
from runtime_matrix.experiments.reproduction import setting
from runtime_matrix.experiments.timing import interleave
from runtime_matrix.experiments.timing.runner import Runner
from runtime_matrix.experiments.timing.scripted import ScriptedLauncher
from tests.conftest import ROOT
from tests.in_process import call

STEP_S = 0.002
WORDS = (
    *("runtime=fake", "against=fake", "model=random", "benchmark=[latency]", "agreement.enabled=false"),
    *("benchmark.latency.prompt_tokens=8", "benchmark.latency.new_tokens=4", "benchmark.latency.iterations=2"),
    *("comparison.launches=4", "comparison.rounds=4"),
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a record whose steps take 1.25 times as long as its reference's."""
    home = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interleave, "launch", ScriptedLauncher(slower_by(0.25)))
        done = call(compare.main, [*WORDS, f"results_dir={home}"])
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = home.glob("*-01-*")
    return folder


@pytest.fixture(autouse=True)
def same_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out a difference of the checkout, which may have been changed between both measurements."""
    monkeypatch.setattr(setting, "_commit", lambda recorded, here: [])


def slower_by(share: float, spread: float = 0.0) -> Callable[[Runner, int], float]:
    def step_s(runner: Runner, number: int) -> float:
        return STEP_S * (1 + share + spread * (-1) ** number if "-01-" in runner.folder.name else 1)

    return step_s


def reproduced(
    record: Path, home: Path, step_s: Callable[[Runner, int], float], *words: str
) -> subprocess.CompletedProcess[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interleave, "launch", ScriptedLauncher(step_s, seed=1))
        return call(reproduce.main, [str(record), "--results", str(home), *words])


@pytest.mark.parametrize(
    ("share", "spread", "code", "answer"),
    [
        (0.25, 0.0, 0, "reproduced"),
        (0.40, 0.0, 1, "not reproduced"),
        (0.25, 0.2, 3, "inconclusive"),
    ],
)
def test_the_difference_of_two_speedups_decides(
    recorded: Path, tmp_path: Path, share: float, spread: float, code: int, answer: str
) -> None:
    done = reproduced(recorded, tmp_path, slower_by(share, spread))
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == answer
    assert "decode" in done.stdout
    assert re.search(r"recorded 0\.(79|80)\d× of the reference", done.stdout)  # 1 / 1.25


def test_another_machine_is_said_first_and_is_no_failure(recorded: Path, tmp_path: Path) -> None:
    copy = tmp_path / recorded.name
    shutil.copytree(recorded, copy)
    content = json.loads((copy / "record.json").read_text())
    content["environment"]["instruction_sets"] = ["none"]
    (copy / "record.json").write_text(json.dumps(content))
    done = reproduced(copy, tmp_path / "new", slower_by(0.40))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].startswith("  differs: instruction sets none, here ")
    assert lines[-1].startswith("other machine: differs by 0.8")
    assert "× in decode" in lines[-1]


def test_a_record_id_is_found_in_the_results(recorded: Path) -> None:
    done = reproduced(Path(recorded.name), recorded.parent, slower_by(0.25), "--launches", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "launch 5 of 5" in done.stderr + done.stdout


def test_a_record_without_launches_is_inconclusive(recorded: Path, tmp_path: Path) -> None:
    copy = tmp_path / recorded.name
    shutil.copytree(recorded, copy)
    (copy / "speed.json").unlink()
    content = json.loads((copy / "record.json").read_text())
    (copy / "record.json").write_text(json.dumps({**content, "is_reference": False}))
    done = reproduced(copy, tmp_path / "new", slower_by(0.25))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "inconclusive: not interleaved" in done.stdout


def test_a_busy_machine_refutes_no_speed(recorded: Path, tmp_path: Path) -> None:
    from msgspec.structs import replace

    launcher = ScriptedLauncher(slower_by(0.40), seed=1)

    def busy(*arguments: object, **more: object) -> object:
        running = launcher(*arguments, **more)  # type: ignore[arg-type]
        running.machine = replace(running.machine, others_ratio=0.4)
        return running

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interleave, "launch", busy)
        done = call(reproduce.main, [str(recorded), "--results", str(tmp_path)])
    assert done.returncode == 3, done.stdout + done.stderr
    assert "other processes used 40 % of the CPU time" in done.stdout


def test_a_row_of_a_published_matrix_is_measured_by_its_command(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = _published(recorded, tmp_path)
    done = reproduced(matrix, tmp_path / "new", slower_by(0.25), "--cell", "fake")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "reproduced"
    matrix.with_name("matrix-launches.json.gz").unlink()
    done = reproduced(matrix, tmp_path / "other", slower_by(0.25), "--cell", "fake")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "matrix-launches.json.gz is missing" in done.stdout
    monkeypatch.setattr(setting, "describe", lambda environment: "another")
    done = reproduced(matrix, tmp_path / "third", slower_by(0.25), "--cell", "fake")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "other machine: inconclusive here too")


def _published(recorded: Path, home: Path) -> Path:
    """Write the matrix of a single row with its launches, as they are published."""
    record = json.loads((recorded / "record.json").read_text())
    from runtime_matrix.experiments.analysis.matrix import rows
    from runtime_matrix.experiments.records.store import read_results

    results, _ = read_results(recorded, [recorded])
    (row,) = rows(results)
    words = " ".join(word for word in WORDS if not word.startswith("against="))
    flat = {**row.flat(), "command": f"python -m experiments.run {words}", "is_reference": False}
    assert flat["machine_description"] == describe(results[0].record.environment)
    matrix = home / "matrix.json"
    matrix.write_text(json.dumps([flat]))
    launches = json.loads((recorded / "speed.json").read_text())["launches"]
    content = json.dumps({record["record_id"]: [launch["own"] for launch in launches]})
    matrix.with_name("matrix-launches.json.gz").write_bytes(gzip.compress(content.encode()))
    return matrix


def _damaged(recorded: Path, home: Path) -> tuple[str, ...]:
    (home / "damaged").mkdir()
    (home / "damaged" / "record.json").write_text("{")
    return (str(home / "damaged"),)


def _foreign(recorded: Path, home: Path) -> tuple[str, ...]:
    (home / "foreign").mkdir()
    (home / "foreign" / "record.json").write_text('{"name": "another project"}')
    return (str(home / "foreign"),)


def _failed(recorded: Path, home: Path) -> tuple[str, ...]:
    shutil.copytree(recorded, home / "failed")
    content = json.loads((home / "failed" / "record.json").read_text())
    (home / "failed" / "record.json").write_text(json.dumps({**content, "status": "crash", "reason": "SIGSEGV"}))
    return (str(home / "failed"),)


def _damaged_launches(recorded: Path, home: Path) -> tuple[str, ...]:
    matrix = _published(recorded, home)
    matrix.with_name("matrix-launches.json.gz").write_bytes(b"no gzip")
    return (str(matrix), "--cell", "fake")


PUBLISHED = str(ROOT / "results" / "amd-epyc-2-cores" / "matrix.json")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (lambda recorded, home: ("no-such-id",), "neither a record's folder, nor a record_id"),
        (lambda recorded, home: (str(home),), "neither a record's folder"),
        (_damaged, "damaged"),
        (_foreign, "foreign: not a record of this program"),
        (_failed, "its status is crash (SIGSEGV): there is nothing to reproduce"),
        (_damaged_launches, "matrix-launches.json.gz is damaged"),
        (lambda recorded, home: (PUBLISHED,), "choose one with --cell eager or onnxruntime"),
        (lambda recorded, home: (PUBLISHED, "--cell", "onnxruntim"), "did you mean 'onnxruntime'"),
        (lambda recorded, home: (PUBLISHED, "--cell", "tensorrt"), "its status is unsupported"),
        (lambda recorded, home: (str(recorded), "--benchmarks", "code"), "--benchmarks code is not in the record"),
        (lambda recorded, home: (str(recorded), "--cell", "fake"), "RECORD is a single record"),
    ],
)
def test_a_mistake_is_one_line(
    recorded: Path, tmp_path: Path, words: Callable[[Path, Path], tuple[str, ...]], text: str
) -> None:
    done = call(reproduce.main, [*words(recorded, tmp_path), "--results", str(tmp_path / "new")])
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.alone
def test_a_real_record_is_reproduced(tmp_path: Path) -> None:
    words = ("runtime=onnxruntime", "against=eager", "benchmark=[latency,multiple_choice]", "comparison.launches=4")
    small = ("benchmark.multiple_choice.limit=40", "comparison.rounds=10", f"results_dir={tmp_path}")
    assert call(compare.main, [*words, *small]).returncode == 0
    (folder,) = tmp_path.glob("*-01-*")
    done = call(reproduce.main, [str(folder), "--results", str(tmp_path / "new")])
    assert done.returncode in (0, 3), done.stdout + done.stderr  # 3: a busy machine
    assert "multiple_choice  reproduced: 0 of 40 items scored otherwise" in done.stdout
