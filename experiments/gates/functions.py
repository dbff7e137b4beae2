"""Gates over any two programs and over the answers of any evaluation program, as functions."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.gates.answers.gate import AnswerJudgement, AnswerLimits, judge_answers
from runtime_matrix.experiments.gates.programs.gate import Note, ProgramJudgement, judge_programs
from runtime_matrix.experiments.gates.programs.limits import ProgramLimits
from runtime_matrix.experiments.programs.figure import DEFAULT, parse_figure
from runtime_matrix.experiments.programs.program import Program
from runtime_matrix.experiments.programs.turns import Comparison, Side

SHELL = "/bin/sh"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How both programs are run; `shell` None starts them directly. Helpers always run in a shell, in the folders."""

    directory: str | Path = "."
    against_directory: str | Path | None = None
    shell: str | None = None
    prepare: str | None = None  # before each timed run; it is not timed
    rebuild: str | None = None  # before a fail is measured again
    repeat: int = 1  # runs of each program per turn
    warm_up: int = 1
    timeout_s: float = 600.0
    ignore_failure: bool = False

    def side(self, text: str, directory: str | Path) -> Side:
        """Return one of the two programs. UserError for a command that cannot be split or a missing folder."""
        place = Path(directory)
        program = Program(text, place, self.shell, self.timeout_s)
        program.check()
        helpers = [
            None if helper is None else Program(helper, place, self.shell or SHELL, self.timeout_s)
            for helper in (self.prepare, self.rebuild)
        ]
        return Side(program, helpers[0], helpers[1])


_RUNS = RunOptions()


def gate_command(
    command: str | Sequence[str],
    against: str | Sequence[str],
    *,
    metrics: Sequence[str] = DEFAULT,
    confirm: bool = True,
    note: Note = lambda text: None,
    runs: RunOptions = _RUNS,
    **limits: Any,
) -> ProgramJudgement:
    """Run two programs in turns and judge the first one, as `python -m experiments.gate --command` does.

    A command is a line or a sequence of words. `metrics`: wall, cpu, memory, json:PATH, regex:PATTERN. `limits` are the
    fields of `ProgramLimits`, such as `must_find=0.1` or `tail=False`. `note` gets a line per turn. UserError for a
    program that fails or prints no number, TypeError for an unknown limit.
    """
    return judge_programs(comparison(command, against, metrics, runs), ProgramLimits(**limits), confirm, note)


def comparison(
    command: str | Sequence[str], against: str | Sequence[str], metrics: Sequence[str], runs: RunOptions
) -> Comparison:
    """Return how two programs are run. UserError for a command that cannot be split, a folder or an unknown metric."""
    sides = [
        runs.side(words if isinstance(words, str) else shlex.join(words), place)
        for words, place in ((command, runs.directory), (against, runs.against_directory or runs.directory))
    ]
    figures = [parse_figure(text) for text in dict.fromkeys(metrics)]
    return Comparison(sides[0], sides[1], figures, runs.repeat, runs.warm_up, runs.ignore_failure)


def gate_answers(candidate: str | Path, reference: str | Path, *, margin: float, **limits: Any) -> AnswerJudgement:
    """Judge the answers in a file or folder by a reference's, as `python -m experiments.gate --answers` does.

    `margin` is a share (0.01 is one point). `limits` are the other fields of `AnswerLimits`, such as
    `metric="acc_norm"` or `each_task=True`. UserError for files that do not match, TypeError for an unknown limit.
    """
    return judge_answers(Path(candidate), Path(reference), AnswerLimits(margin=margin, **limits))
