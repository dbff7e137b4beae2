"""The command as a user runs it, over scripted runtimes; and its mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.gate import main
from runtime_matrix.experiments.records.schema import to_plain
from runtime_matrix.experiments.timing import interleave
from runtime_matrix.experiments.timing.scripted import ScriptedLauncher
from tests.conftest import ROOT
from tests.experiments.gates.judged import baseline
from tests.in_process import call

Gate = Callable[..., subprocess.CompletedProcess[str]]
SHORT = ("comparison.rounds=4", "comparison.new_tokens=4", "comparison.one_thread_rounds=20", "comparison.warmup=1")
# Speed needs three launches for an interval, and bounds that a busy machine keeps.
QUICK = ("gate.interim_launches=[3]", "gate.must_find=0.6", *SHORT, "gate.reference.accuracy={}")
FAKE = ("runtime=fake", "against=fake", "model=random", "runtime.engine.work=20", *QUICK)
NO_ACCURACY = ("gate.baseline.accuracy={}",)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    def gate(*words: str) -> subprocess.CompletedProcess[str]:
        return call(main, [*words, f"results_dir={tmp_path / 'runs'}"])

    return gate


def small_gate(tmp_path: Path) -> str:
    """A gate of speed, memory, load and counts, since scripted runtimes answer nothing."""
    path = tmp_path / "gate.yaml"
    path.write_text(
        "name: small\nconfirm: true\nalpha: 0.05\nindifferent: 0.02\nmust_find: 0.6\ninterim_launches: [3]\n"
        "reference: {speedup: {}, cpu_speedup: {decode: 1.0}, accuracy: {}, outputs: []}\n"
        "baseline: {speedup: [], cpu_speedup: [decode], memory: {weight_bytes: 0, peak_host_bytes: 3.0},\n"
        "  load: {load_s: 50.0}, accuracy: {}, counts: [tokens], all_cells: true}\n"
    )
    return str(path)


@pytest.mark.slow
@pytest.mark.alone
def test_a_gate_writes_a_baseline_and_passes_against_it(gate: Gate, tmp_path: Path) -> None:
    kept = f"baseline={tmp_path / 'kept'}"
    made = gate(*words(tmp_path), kept, "update=true")
    assert made.returncode == 0, made.stdout + made.stderr
    assert "new" in made.stdout
    passed = gate(*words(tmp_path), kept)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "gate small: pass" in passed.stdout


def test_more_memory_than_in_the_baseline_fails_and_a_missing_cell_is_inconclusive(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interleave, "launch", ScriptedLauncher(lambda runner, number: 0.002))
    kept = f"baseline={tmp_path / 'kept'}"
    assert gate(*words(tmp_path), kept, "update=true").returncode == 0
    path = tmp_path / "kept" / "fake-random-auto.json"
    content = json.loads(path.read_text())
    content["memory"]["weight_bytes"] = -1  # what is measured is more
    path.write_text(json.dumps(content))
    (tmp_path / "kept" / "other.json").write_text(json.dumps(content | {"cell": "compile-random-auto"}))
    failed = gate(*words(tmp_path), kept)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "failed twice" in failed.stdout
    assert "in the baseline but not in this run" in failed.stdout
    verdict = json.loads((tmp_path / "runs" / "gate" / "verdict.json").read_text())
    assert verdict["was_repeated"] is True
    assert {one["name"]: one["verdict"] for one in verdict["findings"]}["cell"] == "inconclusive"


def words(tmp_path: Path) -> list[str]:
    return [f"gate={small_gate(tmp_path)}", "runtime=fake", "against=fake", "model=random", *SHORT]


@pytest.mark.slow
@pytest.mark.alone
def test_a_slower_runtime_fails_as_a_test_with_its_loss(tmp_path: Path) -> None:
    """Over a runtime of another project, through the fixture; slow by computation, not by sleeping."""
    (tmp_path / "mine.py").write_text(
        "from runtime_matrix.runtimes.engines.fake import Fake\n\n\n"
        "class Mine(Fake):\n    def __init__(self, dtype, work):\n"
        "        super().__init__(dtype, work=work)\n"
    )
    (tmp_path / "test_mine.py").write_text(
        "def test_my_runtime(gate):\n"
        f"    gate('mine:Mine', gate={small_gate(tmp_path)!r}, against='fake', work=100,\n"
        f"         overrides=['model=random', 'agreement.enabled=false', *{SHORT!r}])\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "more than the indifferent 2 %; profile decode" in done.stdout
    assert "failed twice" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.slow
@pytest.mark.alone
def test_each_limit_is_a_test(tmp_path: Path) -> None:
    given = ["--gate", small_gate(tmp_path), "--gate-with"]
    given.append(f"runtime=fake against=fake model=random {' '.join(SHORT)} results_dir={tmp_path / 'runs'}")
    command = [sys.executable, "-m", "pytest", "-v", *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fake-random-auto: reference::cpu_speedup::decode PASSED" in done.stdout
    assert "1 passed" in done.stdout
    broken = [*command[:-1], command[-1] + " runtime.engine.fault=unsupported"]
    done = subprocess.run(broken, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "inconclusive: not measured: unsupported: the fake runtime was told to be unsupported" in done.stdout
    command[command.index("--gate") + 1] = "nowhere.yaml"
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert "--gate nowhere.yaml is neither a file nor one of ci, speed" in done.stderr


def test_nothing_measured_is_inconclusive(gate: Gate) -> None:
    done = gate(*FAKE, "runtime.engine.fault=unsupported")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "gate ci: inconclusive" in done.stdout


def spoiled(tmp_path: Path, **changes: Any) -> str:
    from runtime_matrix.experiments.records.environment import environment

    here = environment()
    kept = baseline(
        cell="fake-random-auto",
        machine={"processor": here.processor, "cores": here.cores},
        model_digest="other",
        accuracy={},
    )
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "fake-random-auto.json").write_text(json.dumps(to_plain(kept) | changes))
    return f"baseline={folder}"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["gate=sped"], "did you mean 'speed'"),
        (["gate=nowhere.yaml"], "gate=nowhere.yaml is not an option"),
        (["gate.must_find=-0.1"], "gate.must_find must be at least 0.001; found -0.1"),
        (["gate.must_find=wide"], "must be of the type float; found 'wide'"),
        (["gate.must_find=.nan"], "must be a number"),
        (["gate.indifferent=0.7"], "gate.indifferent=0.7 must be less than gate.must_find=0.6"),
        (["gate.baseline.memory.weight_bytes=-1"], "must be at least 0; found -1"),
        (["gate.reference.accuracy.multiple_choise=0.1"], "did you mean 'multiple_choice'"),
        (["gate.baseline.counts=[graph_brakes]"], "did you mean 'graph_breaks'"),
        (["gate.interim_launches=[10,6]"], "must grow"),
        (["against=eagr"], "did you mean 'eager'"),
        (["runtime=compile,eager"], "add -m"),
        (["update=true"], "baseline=DIR"),
        (["update=yes"], "update=yes must be true or false"),
        (["baseline=/nowhere"], "holds no baseline"),
        (["resume=true"], "leave it out"),
        (["--fast"], "--fast is not an option"),
        (["-m", "runtime.engine.work=1,2"], "runtime.name="),
    ],
)
def test_mistakes_are_one_line_and_exit_with_2(gate: Gate, given: list[str], says: str) -> None:
    done = gate(*(word for word in FAKE if word.split("=")[0] not in {one.split("=")[0] for one in given}), *given)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"machine": {"processor": "another", "cores": 64}}, "of another machine (processor another, here "),
        ({"machine": {"instruction_sets": ["sse9"]}}, "of another machine (instruction sets sse9, here "),
        ({}, "of another model"),
        ({"schema_version": 99}, "has schema 99, this program reads 2"),
        ({"cell": "eager-random-auto"}, "holds no fake-random-auto"),
    ],
)
def test_a_baseline_that_is_not_comparable(gate: Gate, tmp_path: Path, changes: JsonObject, says: str) -> None:
    done = gate(*FAKE, *NO_ACCURACY, spoiled(tmp_path, **changes))
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_truncated_baseline(gate: Gate, tmp_path: Path) -> None:
    word = spoiled(tmp_path)
    path = tmp_path / "kept" / "fake-random-auto.json"
    path.write_text(path.read_text()[:-20])
    done = gate(*FAKE, *NO_ACCURACY, word)
    assert done.returncode == 2
    assert "is damaged" in done.stderr


def test_a_renamed_benchmark(tmp_path: Path) -> None:
    from runtime_matrix.experiments.config.errors import UserError
    from runtime_matrix.experiments.gates.axes import accuracy
    from runtime_matrix.experiments.gates.axes.accuracy import BaselineScores
    from runtime_matrix.experiments.gates.baseline import check_baseline
    from runtime_matrix.experiments.gates.request import prepare_words
    from runtime_matrix.experiments.records.environment import environment

    asked = prepare_words(["runtime=eager", f"results_dir={tmp_path}"])
    (cell,) = asked.candidates
    gate = asked.gate.replaced(accuracy.BASELINE, {"multiple_choice": 0.03})
    here = environment()
    scores = BaselineScores(scores={})
    misnamed = baseline(
        machine={"processor": here.processor, "cores": here.cores},
        model_digest=cell.facts.digest,
        accuracy={"multiple_choices": scores},
    )
    with pytest.raises(UserError, match=r"holds no benchmark multiple_choice; did you mean 'multiple_choices'\?"):
        check_baseline(misnamed, cell, here, gate)
    named = structs.replace(misnamed, accuracy={"multiple_choice": scores})
    with pytest.raises(UserError, match="is of version 0 of benchmark multiple_choice, this is 1: update=true"):
        check_baseline(structs.replace(named, versions={"multiple_choice": 0}), cell, here, gate)
    with pytest.raises(UserError, match=r"other options of benchmark\.multiple_choice"):
        check_baseline(named, cell, here, gate)


def test_a_baseline_without_the_keys_of_later_ones_is_read(tmp_path: Path) -> None:
    from runtime_matrix.experiments.gates.baseline import read_baselines, write_baseline

    kept = structs.replace(baseline(), versions={}, peaks=[])
    path = write_baseline(kept, tmp_path)
    content = json.loads(path.read_text())
    del content["versions"], content["peaks"]
    path.write_text(json.dumps(content))
    assert read_baselines(tmp_path) == {"mine": kept}


def test_help_is_quick_and_without_torch() -> None:
    for name in ("gate", "calibrate", "compare"):
        code = f"import sys, experiments.{name} as c; assert c.main(['--help']) == 0; assert 'torch' not in sys.modules"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert f"python -m experiments.{name}" in done.stdout
