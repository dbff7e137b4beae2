"""The commands of the documentation are ones that the program takes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest

from runtime_matrix.experiments import calibrate, proof, reproduce, serve
from runtime_matrix.experiments.advise import main as advise
from runtime_matrix.experiments.cache import main as cache
from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.cells.overrides import cells, expand
from runtime_matrix.experiments.claims import main as claims
from runtime_matrix.experiments.cli import gate_answers, gate_command
from runtime_matrix.experiments.config.arguments import read_arguments
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.detect import main as detect
from runtime_matrix.experiments.detector.stored import stored_responses
from runtime_matrix.experiments.explain import main as explain
from runtime_matrix.experiments.gates.request import prepare_words
from runtime_matrix.experiments.judges import server
from runtime_matrix.experiments.report import main as report
from runtime_matrix.experiments.searching.request import read_request, space_of
from runtime_matrix.experiments.validation import (
    audit_proof,
    false_timeouts,
    memory_estimates,
    search_replay,
    serving_overhead,
)
from runtime_matrix.experiments.validation.memory_models import RandomModel
from runtime_matrix.experiments.validation.simulation import main as simulation
from tests.conftest import ROOT
from tests.documentation import commands
from tests.experiments.answers import written
from tests.experiments.detector.made import made
from tests.experiments.harness.local_tasks import write_tasks
from tests.experiments.recorded import make_record, sweep, write
from tests.experiments.reports.test_judges import judged_cell
from tests.experiments.tasks.formats.files import VIETNEWS, asked, blimp, json_lines, squad, vmlu
from tests.experiments.tasks.formats.files import write as write_data
from tests.gguf_files import write_gguf

DATA = ROOT / "experiments" / "bundled" / "data"
FILES = {
    "perplexity": "perplexity.txt",
    "code": "code.jsonl",
    "mutation": "code.jsonl",
    "multiple_choice": "multiple_choice",
    "last_word": "perplexity.txt",
}
PLACES = ("DIR", "FILE")
FIELDS = "fields={question: query, answer: gold}"  # of data that is not the bundled one
TARGET, ENGINE = "runtime.engine.target", "runtimes.engines.eager:Eager"
PUBLISHED = "results/amd-epyc-2-cores"
TESTED = (
    "run",
    "serve",
    "gate",
    "compare",
    "search",
    "report",
    "advise",
    "claims",
    "detect",
    "calibrate",
    "proof",
    "cache",
    "explain",
    "reproduce",
    "validation.simulation",
    "validation.search_replay",
    "validation.memory_estimates",
    "validation.audit_proof",
    "validation.false_timeouts",
    "validation.serving_overhead",
)


class Reached(Exception):
    """Raised in the place of measuring."""


def words_of(command: str) -> list[str]:
    return shlex.split(command)[3:]


def test_each_command_is_tested_below() -> None:
    programs = {shlex.split(command)[2].removeprefix("experiments.") for command in commands("python -m experiments.")}
    assert programs <= set(TESTED)


@pytest.mark.parametrize("command", commands("python -m experiments.run "))
def test_a_command_that_measures_is_planned(
    command: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "OWNER/NAME" in command:
        pytest.skip("needs a hub; tests/experiments/test_run.py has one")
    if words_of(command) == ["--help"]:
        done = subprocess.run([sys.executable, *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 0
        return
    places = {"model.path=DIR": f"model.path={tiny_model}", f"{TARGET}=MODULE:CLASS": f"{TARGET}={ENGINE}"}
    if "FILE.gguf" in command:
        pytest.importorskip("gguf", reason="the extra llamacpp is not installed")
        model = ROOT / "experiments" / "bundled" / "model"
        places |= {"model.path=FILE.gguf": f"model.path={write_gguf(model, tmp_path / 'bundled.gguf')}"}
        places |= {f"model.{name}=DIR": f"model.{name}={model}" for name in ("reference", "tokenizer")}
    if "lm_eval" in command:
        folder = write_tasks(tmp_path / "tasks", documents=8)
        places |= {"benchmark.lm_eval.tasks=[my_task]": "benchmark.lm_eval.tasks=[local_texts]"}
        places |= {"benchmark.lm_eval.include_path=DIR": f"benchmark.lm_eval.include_path={folder}"}
    if "free_form" in command:
        (tmp_path / "sums.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "#### 2"}')
        places |= {"benchmark.free_form.data=FILE": f"benchmark.free_form.data={tmp_path / 'sums.jsonl'}"}
    if "judge=" in command:
        monkeypatch.setattr(server, "_check_reachable", lambda url: None)
        monkeypatch.setenv("JUDGE_KEY", "a key")
        places |= {"judge.model=DIR": f"judge.model={ROOT / 'experiments' / 'bundled' / 'model'}"}
        places |= {"judge.url=http://HOST:PORT": "judge.url=http://localhost:8000"}
    if "stored=FILE" in command:
        (tmp_path / "stored.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in stored_responses(made())))
        key = "benchmark.detection_techniques.stored"
        places |= {f"{key}=FILE": f"{key}={tmp_path / 'stored.jsonl'}"}
    if "DIR/test.jsonl" in command or "format=blimp" in command:
        questions = write_data(tmp_path / "test.jsonl", json_lines([vmlu(28, 1), vmlu(28, 2)]))
        write_data(tmp_path / "dev.jsonl", json_lines([vmlu(28, 9, answer="A")]))
        data = questions if "test.jsonl" in command else write_data(tmp_path / "pairs.jsonl", json_lines([blimp(1)]))
        command = re.sub(r"(multiple_choice\.data=)\S+", rf"\g<1>{data}", command)
    if "summarization.data=DIR" in command:
        write_data(tmp_path / "news" / "1.txt.seg", VIETNEWS)
        places |= {"benchmark.summarization.data=DIR": f"benchmark.summarization.data={tmp_path / 'news'}"}
    if "extractive_qa.data=FILE" in command:
        key = "benchmark.extractive_qa.data"
        places |= {
            f"{key}=FILE": f"{key}={write_data(tmp_path / 'dev.json', squad([asked('1', 'Hà Nội'), asked('2')]))}"
        }
    for benchmark, file in FILES.items():
        places |= {f"benchmark.{benchmark}.data={name}": f"benchmark.{benchmark}.data={DATA / file}" for name in PLACES}
    words = [places.get(word, word) for word in words_of(command) if word != "-m" and not word.endswith(FIELDS)]
    for job in expand(words):
        cell = plan(compose([*job, f"artifacts_dir={tmp_path}"]), command)
        assert cell.config.benchmark.chosen()


GATES = commands("python -m experiments.gate ")


@pytest.mark.parametrize("command", [command for command in GATES if "--command" in command])
def test_a_gate_over_programs_is_planned(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("new", "old"):
        (tmp_path / folder).mkdir()

    def reached(*arguments: object) -> None:
        raise Reached

    monkeypatch.setattr(gate_command, "judge_programs", reached)
    options = gate_command.parser().parse_args(words_of(command))
    with pytest.raises(Reached):
        gate_command.gate(options, [])


@pytest.mark.parametrize("command", [command for command in GATES if "--answers" in command])
def test_a_gate_over_answers_is_judged(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("NEW", "OLD"):
        written.lm_eval(tmp_path / folder, {task: [1.0] * 600 for task in ("arc_easy", "piqa")})
    assert gate_answers.main(words_of(command)) == 0


@pytest.mark.parametrize("command", [command for command in GATES if " --" not in command])
def test_a_gate_is_planned(command: str, tmp_path: Path) -> None:
    words = words_of(command)
    request = prepare_words([*words, f"artifacts_dir={tmp_path}"])
    assert request.candidates
    assert request.gate.name == next((word.partition("=")[2] for word in words if word.startswith("gate=")), "ci")


@pytest.mark.parametrize("command", commands("python -m experiments.compare "))
def test_a_comparison_is_planned(command: str, tmp_path: Path) -> None:
    words = words_of(command)
    against = next(word.partition("=")[2] for word in words if word.startswith("against="))
    overrides = [word for word in words if not word.startswith("against=")]
    reference, candidates = cells(read_arguments([*overrides, f"artifacts_dir={tmp_path}"]), against, command)
    assert len(candidates) == 1
    assert reference.config.runtime.weights["name"] == "full"


@pytest.mark.parametrize("command", commands("python -m experiments.search "))
def test_a_search_has_a_space(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["search"])
    _, given = read_request([*words_of(command), f"artifacts_dir={tmp_path}"])
    assert space_of(given).others


@pytest.mark.parametrize(
    ("main", "module", "name", "command"),
    [
        *(
            (calibrate.main, calibrate, "measure_cells", command)
            for command in commands("python -m experiments.calibrate ")
        ),
        *((proof.main, proof, "Proof", command) for command in commands("python -m experiments.proof ")),
        *(
            (serving_overhead.main, serving_overhead, "_server", command)
            for command in commands("python -m experiments.validation.serving_overhead ")
        ),
        *(
            (memory_estimates.main, RandomModel, "write", command)
            for command in commands("python -m experiments.validation.memory_estimates ")
        ),
        *(
            (audit_proof.main, audit_proof, "AuditProof", command)
            for command in commands("python -m experiments.validation.audit_proof ")
        ),
        *(
            (false_timeouts.main, false_timeouts, "_references", command)
            for command in commands("python -m experiments.validation.false_timeouts ")
        ),
    ],
)
def test_a_command_reaches_its_measurement(
    main: Callable[[Sequence[str]], int],
    module: object,
    name: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reached(*arguments: object) -> None:
        raise Reached

    monkeypatch.setattr(module, name, reached)
    with pytest.raises(Reached):
        main([*words_of(command), f"results_dir={tmp_path}"])


@pytest.mark.parametrize(
    "command", [*commands("python -m experiments.report "), *commands("python -m experiments.advise ")]
)
def test_a_command_that_reads_answers(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sweep(tmp_path / "runs")
    words = [word for word in words_of(command) if word != "--open"]
    is_published = PUBLISHED in words
    if "--judges" in words:
        places = {name: judged_cell(tmp_path / name, name, {"q": 1.0}) for name in ("A", "B")}
        assert report([str(places.get(word, word)) for word in words]) == 0
        return
    places = {"A": folder, "B": folder, "PAGE.html": tmp_path / "page.html", PUBLISHED: ROOT / PUBLISHED}
    arguments = [str(places.get(word, word)) for word in words]
    main = report if command.startswith("python -m experiments.report") else advise
    assert main(arguments if is_published else [str(folder), *arguments]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("command", commands("python -m experiments.serve "))
def test_a_server_is_about_to_load_its_model(
    command: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def reached(*arguments: object) -> None:
        raise Reached

    monkeypatch.setattr("runtime_matrix.experiments.serving.loading.opened", reached)
    monkeypatch.setattr("runtime_matrix.experiments.serving.running.bind", lambda config: nullcontext())
    words = [f"model.path={tiny_model}" if word == "model.path=DIR" else word for word in words_of(command)]
    if words == ["--help"]:
        assert serve.main(words) == 0
        return
    with pytest.raises(Reached):
        serve.main([*words, f"results_dir={tmp_path}"])


@pytest.mark.parametrize("command", commands("python -m experiments.claims"))
def test_claims_are_judged(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").mkdir()
    for folder in (ROOT / "results").glob("*-cores"):
        (tmp_path / "results" / folder.name).symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    assert claims(words_of(command)) == 0
    assert " unmeasured" in capsys.readouterr().out


@pytest.mark.parametrize("command", commands("python -m experiments.detect "))
def test_a_detector_is_judged(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = tmp_path / "items.jsonl"
    stored.write_text("".join(f"{json.dumps(item)}\n" for item in stored_responses(made())))
    assert detect([str(stored) if word in ("FILE", "FILE2") else word for word in words_of(command)]) == 0
    assert "held out" in capsys.readouterr().out


@pytest.mark.parametrize("command", commands("python -m experiments.explain"))
def test_an_explanation_reaches_the_cell(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path, [make_record("eager"), make_record("onnxruntime+w8"), make_record("onnxruntime+w4a8")])
    words = [*words_of(command), "--results", str(folder)]
    # These records hold no configuration from which the steps of a ladder could be planned.
    assert explain(words) == (2 if "--ladder" in words else 0)
    captured = capsys.readouterr()
    assert "onnxruntime+w" in captured.out + captured.err


@pytest.mark.parametrize("command", commands("python -m experiments.reproduce "))
def test_a_record_is_about_to_be_reproduced(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(*arguments: object) -> None:
        raise Reached

    monkeypatch.setattr(reproduce, "reproduce", reached)
    monkeypatch.setattr(reproduce, "claim_of_folder", lambda folder, places, command: _Claim())
    sweep(tmp_path / "runs")
    places = {"RECORD": str(tmp_path / "runs" / "run-1-onnxruntime"), f"{PUBLISHED}/matrix.json": f"{ROOT / PUBLISHED}"}
    with pytest.raises(Reached):
        reproduce.main([*(places.get(word, word) for word in words_of(command)), "--results", str(tmp_path)])


class _Claim:
    """Stands for the claim of a record whose configuration is invented."""

    title, differences, is_same_machine = "a record", (), True


@pytest.mark.parametrize("command", commands("python -m experiments.cache "))
def test_the_cache_is_listed(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cache([str(tmp_path), *words_of(command)]) == 0
    assert "0 entries" in capsys.readouterr().out


@pytest.mark.parametrize("command", commands("python -m experiments.validation.search_replay "))
def test_a_replay_needs_a_grid(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, *options = words_of(command)
    assert search_replay.main([str(tmp_path / folder), *options]) == 2
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("command", commands("python -m experiments.validation.simulation "))
def test_the_rules_are_simulated(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulation(words_of(command)) == 0
    assert "How often the rules err" in capsys.readouterr().out


@pytest.mark.parametrize("command", commands("python docs/recompute.py "))
def test_the_published_headlines_are_recomputed(command: str) -> None:
    done = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "6 rows: every headline is the same\n")


@pytest.mark.parametrize("command", commands("pytest experiments/benchmarks "))
def test_pytest_collects_the_benchmarks(command: str) -> None:
    arguments = [sys.executable, "-m", *shlex.split(command), "--collect-only", "-q"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "test_benchmark[perplexity]" in done.stdout
