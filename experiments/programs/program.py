"""A program given as a command line, and one run of it in a fresh process."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.execution import guard
from runtime_matrix.experiments.records.schema import typed

_LAUNCHER = Path(__file__).with_name("launcher.py")
_MOST_OUTPUT_BYTES = 16 * 2**20
_PATIENCE_S = 0.1  # for processes that the program left behind and that are about to end


@dataclass(frozen=True)
class Program:
    """A command line. `shell`: the shell that runs it, or None to start it directly."""

    command: str
    directory: Path = Path()
    shell: str | None = None
    timeout_s: float = 600.0

    @property
    def argv(self) -> list[str]:
        """Return the words of the process. UserError for an empty command or an unclosed quote."""
        if self.shell is not None:
            return [*shlex.split(self.shell), "-c", self.command]
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise UserError(f"`{self.command}` cannot be split into words: {error}") from error
        if not words:
            raise UserError("a command is empty: give a program and its arguments")
        return words

    def check(self) -> None:
        """Raise UserError for a command that cannot be split into words or a folder that does not exist."""
        self.argv  # noqa: B018
        if not self.directory.is_dir():
            raise UserError(f"`{self.command}`: its folder {self.directory} does not exist")


class Usage(Struct, frozen=True, kw_only=True):
    """What a run used. CPU time and peak memory include children that the program waited for.

    `peak_bytes` is that of the largest single process.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
    exit_code: int


@dataclass(frozen=True)
class Run:
    """A finished run. `output` is its standard output, or None if it was not wanted."""

    usage: Usage
    output: str | None


def run(program: Program, wants_output: bool, ignore_failure: bool = False) -> Run:
    """Run the program once in a fresh process.

    UserError if it cannot be started, fails (unless `ignore_failure`), exceeds its time or leaves processes behind.
    """
    with tempfile.TemporaryDirectory(prefix="runtime-matrix-") as folder:
        output, errors = Path(folder) / "stdout", Path(folder) / "stderr"
        usage = _launch(program, output if wants_output else Path(os.devnull), errors)
        if usage.exit_code and not ignore_failure:
            reason = f"exit code {usage.exit_code}"
            if usage.exit_code < 0:
                reason = f"ended by {signal.Signals(-usage.exit_code).name}"
            raise UserError(f"`{program.command}` failed: {reason}{_last_line(errors)}")
        return Run(usage, _text(program, output) if wants_output else None)


def _launch(program: Program, output: Path, errors: Path) -> Usage:
    mark = guard.mark()
    request = {
        "argv": program.argv,
        "directory": str(program.directory.absolute()),
        "timeout_s": program.timeout_s,
        "stdout": str(output),
        "stderr": str(errors),
    }
    before = guard.marked(mark)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(_LAUNCHER)],
        input=json.dumps(request),
        env={**os.environ, guard.NAME: mark},
        capture_output=True,
        text=True,
        check=True,
    )
    left = guard.end_new(mark, before, _PATIENCE_S)
    result = json.loads(done.stdout)
    if "problem" in result:
        raise UserError(f"`{program.command}` failed: {result['problem']}")
    if left:
        raise UserError(
            f"`{program.command}` left processes running ({left} of them), whose time cannot be measured: "
            "let it wait for them"
        )
    return typed(result, Usage)


def _text(program: Program, output: Path) -> str:
    size = output.stat().st_size
    if size > _MOST_OUTPUT_BYTES:
        raise UserError(f"`{program.command}` printed {size:,} bytes; at most {_MOST_OUTPUT_BYTES:,} are read")
    return output.read_text(encoding="utf-8", errors="replace")


def _last_line(errors: Path) -> str:
    with errors.open("rb") as file:
        file.seek(max(0, errors.stat().st_size - 2000))
        lines = file.read().decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {last[:200]}" if last else ""
