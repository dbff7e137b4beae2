"""Check a program against another one, run in turns: a gate for CI over any two commands.

  python -m experiments.gate --command './new' --against './old'
  python -m experiments.gate --command 'python a.py' --against 'python b.py' --metric json:latency.p50_s
  python -m experiments.gate --command './bench' --against './bench' --directory new --against-directory old \\
      --metric 'regex:tokens/s: ([0-9.]+)' --higher-is-better --rebuild make

Both programs run in fresh processes, in turns, until every limit is decided. By default the limits are on wall time,
CPU time and peak memory: one on the centre, and one on the slow tail. A fail is measured again before it is reported,
after --rebuild if that is given: an effect that comes with one build is not a regression.

Exit codes: 0 every limit holds; 1 a limit is broken, also in the second measurement; 2 a mistake, or a program that
fails or prints no number; 3 inconclusive; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from runtime_matrix.experiments.cli.command import measuring
from runtime_matrix.experiments.cli.gate_flags import EXIT, share, whole_number
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import as_typed, command_line
from runtime_matrix.experiments.execution.progress import HEARTBEAT_S, Progress
from runtime_matrix.experiments.gates.functions import SHELL, RunOptions, comparison
from runtime_matrix.experiments.gates.outputs import GateReport, text_lines, write_outputs
from runtime_matrix.experiments.gates.programs.gate import Note, ProgramJudgement, judge_programs
from runtime_matrix.experiments.gates.programs.limits import ProgramLimits
from runtime_matrix.experiments.programs.figure import DEFAULT
from runtime_matrix.experiments.programs.turns import Comparison
from runtime_matrix.experiments.records.schema import to_plain
from runtime_matrix.experiments.records.store import check_writable

_DEFAULTS = ProgramLimits()


def main(words: Sequence[str]) -> int:
    """Judge the command; return the exit code of the module's docstring."""
    options = parser().parse_args(["--help"] if {"-h", "--help"} & {*words} else words)
    return measuring(lambda: gate(options, words), "nothing is kept: a gate judges fresh measurements")


def gate(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Judge the command and print the report; return the exit code."""
    if options.against is None:
        raise UserError("--command needs another program to compare with: --against 'COMMAND'")
    programs = comparison(options.command, options.against, options.metric or DEFAULT, _runs(options))
    limits = _limits(options)
    limits.check()
    if options.output is not None:
        check_writable(options.output)
    with Progress(0, not options.quiet) as progress:
        judgement = judge_programs(programs, limits, options.confirm, _sparse(progress))
    details = {
        "candidate": options.command,
        "reference": options.against,
        "measurements": to_plain(judgement.measurements),
    }
    report = GateReport(
        "command",
        limits.plain(),
        command_line("gate", words),
        judgement.verdict,
        judgement.findings,
        judgement.was_repeated,
        details,
    )
    print("\n".join([*text_lines(report), *_medians(judgement, programs)]))
    if options.output is not None:
        write_outputs(report, options.output)
        print(f"files for CI systems, with every measured value: {options.output}")
    return EXIT[judgement.verdict]


def _sparse(progress: Progress) -> Note:
    """Return a function that shows each turn on a terminal, and one every few seconds in a log."""
    shown_at = -HEARTBEAT_S

    def note(text: str) -> None:
        nonlocal shown_at
        if sys.stderr.isatty() or time.monotonic() - shown_at >= HEARTBEAT_S or not text.startswith("turn"):
            shown_at = time.monotonic()
            progress.note(text)

    return note


def _medians(judgement: ProgramJudgement, programs: Comparison) -> list[str]:
    turns = judgement.measurements[-1]
    lines = []
    for figure in programs.figures:
        values = [
            median(value for turn in turns for value in getattr(turn, side)[figure.name])
            for side in ("candidate", "reference")
        ]
        unit = f" {figure.unit}" if figure.unit else ""
        lines.append(
            f"  {figure.name}: {values[0]:.4g}{unit} against {values[1]:.4g}{unit}, "
            f"medians of {len(turns) * programs.repeat} runs"
        )
    return lines


def _runs(options: argparse.Namespace) -> RunOptions:
    return RunOptions(
        directory=options.directory,
        against_directory=options.against_directory,
        shell=options.shell,
        prepare=options.prepare,
        rebuild=options.rebuild,
        repeat=options.repeat,
        warm_up=options.warmup,
        timeout_s=options.timeout,
        ignore_failure=options.ignore_failure,
    )


def _limits(options: argparse.Namespace) -> ProgramLimits:
    return ProgramLimits(
        indifferent=options.indifferent,
        must_find=options.must_find,
        tail=options.tail,
        tail_indifferent=options.tail_indifferent,
        tail_must_find=options.tail_must_find,
        turns=options.turns,
        alpha=options.alpha,
        higher_is_better=options.higher_is_better,
    )


def _turns(text: str) -> tuple[int, ...]:
    return tuple(whole_number(part, 1) for part in text.split(","))


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"must be above 0; found {text}")
    return value


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    flags = argparse.ArgumentParser(
        command_line("gate"),
        description=as_typed(__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    flags.add_argument("--command", required=True, metavar="CMD", help="the program to judge, with its arguments")
    flags.add_argument("--against", metavar="CMD", help="the program that it is compared with")
    programs = flags.add_argument_group("how the programs run")
    programs.add_argument("--directory", type=Path, default=Path(), metavar="DIR", help="their working folder (.)")
    programs.add_argument("--against-directory", type=Path, metavar="DIR", help="another one for --against")
    programs.add_argument(
        "--shell", nargs="?", const=SHELL, metavar="SHELL", help=f"run the commands in a shell ({SHELL})"
    )
    programs.add_argument("--prepare", metavar="CMD", help="shell command before each timed run, which is not timed")
    programs.add_argument("--rebuild", metavar="CMD", help="shell command in each folder before a fail is repeated")
    programs.add_argument(
        "--repeat", type=lambda text: whole_number(text, 1), default=1, metavar="N", help="runs of each per turn (1)"
    )
    programs.add_argument(
        "--warmup", type=lambda text: whole_number(text, 0), default=1, metavar="N", help="untimed runs first (1)"
    )
    programs.add_argument("--timeout", type=_seconds, default=600.0, metavar="S", help="time limit of each run (600)")
    programs.add_argument("--ignore-failure", action="store_true", help="accept exit codes other than 0")
    limits = flags.add_argument_group("what is judged; shares are written 0.02 or 2%%")
    limits.add_argument(
        "--metric",
        action="append",
        metavar="METRIC",
        help="wall, cpu, memory, json:PATH (a number in the JSON that it prints) or regex:PATTERN (a number in its "
        "text, the last match); can be repeated (wall, cpu and memory)",
    )
    limits.add_argument("--higher-is-better", action="store_true", help="of numbers that the program prints")
    for name, default, text in (
        ("indifferent", _DEFAULTS.indifferent, "a loss that does not matter"),
        ("must-find", _DEFAULTS.must_find, "a loss that must not pass"),
        ("tail-indifferent", _DEFAULTS.tail_indifferent, "the same for the slow tail"),
        ("tail-must-find", _DEFAULTS.tail_must_find, "the same for the slow tail"),
        ("alpha", _DEFAULTS.alpha, "probability of a wrong verdict"),
    ):
        limits.add_argument(f"--{name}", type=share, default=default, metavar="SHARE", help=f"{text} ({default:g})")
    limits.add_argument("--no-tail", dest="tail", action="store_false", help="judge the centre only: fewer turns")
    turns = ",".join(map(str, _DEFAULTS.turns))
    limits.add_argument(
        "--turns", type=_turns, default=_DEFAULTS.turns, metavar="N,N,…", help=f"when limits may be decided ({turns})"
    )
    limits.add_argument("--no-confirm", dest="confirm", action="store_false", help="do not measure a fail again")
    flags.add_argument("--output", type=Path, metavar="DIR", help="write the values and files for CI systems there")
    flags.add_argument("--quiet", action="store_true", help="show no progress")
    return flags
