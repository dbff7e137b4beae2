from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.programs.program import Program, run

PYTHON = f"{sys.executable} -I -S"


def test_a_run_reports_its_time_memory_and_output() -> None:
    code = "import time; x = b'x' * 50_000_000; time.sleep(0.1); sum(range(2_000_000)); print('done')"
    finished = run(Program(f'{PYTHON} -c "{code}"'), wants_output=True)
    usage = finished.usage
    assert finished.output == "done\n"
    assert usage.wall_s > 0.1
    assert 0.01 < usage.cpu_s < usage.wall_s
    assert 50_000_000 < usage.peak_bytes < 90_000_000


def test_a_small_program_does_not_inherit_the_peak_of_this_process() -> None:
    held = b"x" * 200_000_000
    assert run(Program("true"), wants_output=False).usage.peak_bytes < 40_000_000 < len(held)


def test_children_that_are_waited_for_count() -> None:
    child = f"{PYTHON} -c 'sum(range(8_000_000))'"
    alone = run(Program("true", shell="/bin/sh"), wants_output=False).usage
    both = run(Program(f"{child}; {child}", shell="/bin/sh"), wants_output=False).usage
    assert both.cpu_s > alone.cpu_s + 0.1


def test_it_runs_in_its_folder(tmp_path: Path) -> None:
    assert run(Program("pwd", tmp_path), wants_output=True).output == f"{tmp_path.resolve()}\n"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (Program("no-such-program-here"), "no-such-program-here cannot be started: No such file or directory"),
        (Program("/etc/passwd"), "/etc/passwd cannot be started: Permission denied"),
        (Program(f"{PYTHON} -c 'import sys; sys.exit(\"too old\")'"), "exit code 1: too old"),
        (Program("kill -9 $$", shell="/bin/sh"), "ended by SIGKILL"),
        (Program("sleep 20", timeout_s=0.2), "longer than the time limit of 0.2 s"),
        (Program('echo "a'), "No closing quotation"),
        (Program(" "), "a command is empty"),
        (Program("sleep 30 &", shell="/bin/sh"), "left processes running (1 of them)"),
        (Program("true", Path("/no/such/folder")), "its folder /no/such/folder does not exist"),
    ],
)
def test_mistakes_are_one_line(program: Program, message: str) -> None:
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        _checked(program)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert time.monotonic() - start < 10


def _checked(program: Program) -> None:
    program.check()
    run(program, wants_output=False)


def test_a_failure_can_be_accepted() -> None:
    assert run(Program("false"), wants_output=False, ignore_failure=True).usage.exit_code == 1


def test_what_a_program_leaves_behind_is_ended(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(UserError, match="left processes"):
        run(Program(f"sleep 30 & echo $! > {note}", shell="/bin/sh"), wants_output=False)
    state = Path(f"/proc/{note.read_text().strip()}/stat")
    end = time.monotonic() + 5
    while state.exists() and state.read_text().split()[2] != "Z" and time.monotonic() < end:
        time.sleep(0.05)
    assert time.monotonic() < end
