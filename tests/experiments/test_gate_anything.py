"""`gate --command` and `gate --answers` on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from runtime_matrix.experiments import gate as gate_program
from runtime_matrix.experiments.gates.pytest_items import GateCheck
from tests.experiments.answers import written
from tests.in_process import call

PRINTS = f"{sys.executable} -I -S -c 'print({{}})'"
QUICK = ["--quiet", "--no-tail", "--turns", "3", "--warmup", "0"]


def _command(candidate: str, reference: str, *flags: str) -> tuple[int, str, str]:
    done = call(gate_program.main, ["--command", candidate, "--against", reference, *QUICK, *flags])
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("value", "code"), [("100", 0), ("80", 1)])
def test_printed_numbers_are_judged(value: str, code: int, tmp_path: Path) -> None:
    flags = ["--metric", "regex:[0-9]+", "--higher-is-better", "--output", str(tmp_path)]
    returned, out, err = _command(PRINTS.format(value), PRINTS.format("100"), *flags)
    assert (returned, err) == (code, "")
    assert out.splitlines()[0] == f"gate command: {'fail (1 fail)' if code else 'pass (1 pass)'}"
    assert "medians of 3 runs" in out
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["measurements"][0][0]["reference"] == {"regex:[0-9]+": [100.0]}
    assert verdict["was_repeated"] == bool(code)
    assert {"junit.xml", "summary.md", "bencher.json"} <= {file.name for file in tmp_path.iterdir()}


def test_time_and_memory_are_judged_by_default() -> None:
    returned, out, _ = _command(f"{sys.executable} -I -S -c 'x = b\"x\" * 30_000_000'", PRINTS.format(1))
    assert returned == 1
    assert "fail         memory" in out
    assert all(f" {name} " in out for name in ("wall", "cpu", "memory"))


def test_a_number_once_and_a_text_the_next_time(tmp_path: Path) -> None:
    file = tmp_path / "runs"
    script = tmp_path / "program.py"
    script.write_text(f'f = open({str(file)!r}, "a+"); f.write("x"); print(3 if f.tell() < 3 else "hello")')
    returned, out, err = _command(f"{sys.executable} {script}", PRINTS.format(3), "--metric", "regex:.+")
    assert (returned, out) == (2, "")
    assert err.endswith("matches no number: 'hello'\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--command", "true"], "--command needs another program to compare with: --against 'COMMAND'"),
        (["--command", "true", "--against", "no-such-program"], "`no-such-program` failed: no-such-program cannot be"),
        (["--command", "echo hi", "--against", "true", "--metric", "json:a"], "`echo hi` prints no JSON: 'hi'"),
        (["--command", "true", "--against", "true", "--metric", "speed"], "metric speed is unknown"),
        (["--command", "true", "--against", "true", "--output", "/dev/null/x"], "/dev/null/x cannot be written"),
        (["--command", "true", "--against", "true", "--must-find", "1%"], "--indifferent 0.02 must be"),
        (["--answers", "/no/such", "/no/such", "--margin", "1pt"], "/no/such does not exist"),
        (["--answers", "/etc", "/etc"], "--answers needs a margin"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str) -> None:
    done = call(gate_program.main, words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--answers", "a", "b", "--margin", "1%"], "as in 1pt or 0.01; found 1%"),
        (["--command", "a", "--turns", "6,x"], "whole number of at least 1; found x"),
        (["--command", "a", "--alpha", "x"], "as in 0.02 or 2%; found x"),
        (["--command", "a", "runtime=eager"], "unrecognized arguments: runtime=eager"),
    ],
)
def test_flags_that_cannot_be_parsed(words: list[str], message: str) -> None:
    done = call(gate_program.main, words)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(("word", "text"), [("--command", "--rebuild"), ("--answers", "--sequential")])
def test_help_describes_each_gate(word: str, text: str) -> None:
    done = call(gate_program.main, [word, "--help"])
    assert done.returncode == 0
    assert text in done.stdout
    assert word in call(gate_program.main, ["--help"]).stdout


def test_answers_are_judged(tmp_path: Path) -> None:
    new = written.lm_eval(tmp_path / "new", {"arc": [1.0, 0.0] * 500})
    old = written.lm_eval(tmp_path / "old", {"arc": [1.0] * 100 + [1.0, 0.0] * 450})
    done = call(
        gate_program.main, ["--answers", str(new), str(old), "--margin", "1pt", "--output", str(tmp_path / "out")]
    )
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (1, "")
    assert lines[0] == "what 1,000 independent items can show of a margin of 1 points, with probability 80 %:"
    assert lines[4] == "gate answers: fail (1 fail)"
    assert "arc: 1,000 items, acc 50 against 55, 50 worse, 0 better, p " in done.stdout
    assert json.loads((tmp_path / "out" / "verdict.json").read_text())["findings"][0]["value"] == pytest.approx(5)
    plan = call(gate_program.main, ["--answers", str(new), str(old), "--margin", "1pt", "--plan"])
    assert (plan.returncode, plan.stdout.splitlines()) == (0, lines[:4])


def test_the_fixture_judges_programs(gate: GateCheck) -> None:
    quick = {"metrics": ["regex:[0-9]"], "tail": False, "turns": (3,)}
    assert gate.command(PRINTS.format(1), PRINTS.format(1), **quick).verdict == "pass"
    with pytest.raises(pytest.fail.Exception, match=r"fail: regex:\[0-9\]: .* is 2.000× the reference's"):
        gate.command(PRINTS.format(2), PRINTS.format(1), **quick)
    with pytest.raises(pytest.fail.Exception, match="error: `no-such-program` failed"):
        gate.command("no-such-program", "true")


def test_the_fixture_judges_answers(gate: GateCheck, tmp_path: Path) -> None:
    good = written.lm_eval(tmp_path / "good", {"arc": [1.0] * 200})
    bad = written.lm_eval(tmp_path / "bad", {"arc": [0.0] * 200})
    assert gate.answers(good, good, margin=0.05).verdict == "pass"
    with pytest.raises(pytest.fail.Exception, match="fail: arc: acc loses 100 points"):
        gate.answers(bad, good, margin=0.05)
    with pytest.raises(pytest.fail.Exception, match=r"error: .* does not exist"):
        gate.answers(tmp_path / "none", good, margin=0.05)
