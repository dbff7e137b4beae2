"""How often `gate --command` and `gate --answers` are wrong, with injected losses of known size.

  python -m experiments.validation.gate_proof                      all cases: some 40 minutes on two cores
  python -m experiments.validation.gate_proof --gates 20           fewer gates per case
  python -m experiments.validation.gate_proof --only commands      or answers

Each gate is a line of FOLDER/journal.jsonl, so that a second run continues where the first ended. The table is
FOLDER/gates.md.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime_matrix.experiments.cli.command import measuring
from runtime_matrix.experiments.execution.progress import Progress
from runtime_matrix.experiments.gates.functions import RunOptions, gate_command
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.journal import Journal
from runtime_matrix.experiments.records.schema import to_plain
from runtime_matrix.experiments.records.store import write_atomic
from runtime_matrix.experiments.validation.gate_proof_table import JOURNAL, CommandEvent, events, markdown
from runtime_matrix.experiments.validation.injected_answers import CASES as ANSWER_CASES
from runtime_matrix.experiments.validation.injected_answers import answer_event
from runtime_matrix.experiments.validation.load import busy_cores

_HERE = Path(__file__).parent
_WORK = 500_000  # some 35 ms
_UNLUCKY = "1.1"  # the factor of the first build
_BUILD_NOISE = 0.02
# Case: options of the candidate, whether both sides are built, and the share of the requested gates.
_CASES: dict[str, tuple[list[str], str, float]] = {
    "nothing": ([], "", 1.0),
    "10 % more computation": (["compute=0.15"], "", 0.1),
    "10 % more time asleep": (["sleep_s=0.006"], "", 0.1),
    "10 % more memory": (["memory_mib=2"], "", 0.1),
    "a spread of 30 % around the same centre": (["spread=0.3"], "", 0.1),
    "three runs in ten take 1.7 times as long": (["rare=0.8"], "", 0.1),
    "builds vary by 2 %, nothing else": ([], "varied", 0.2),
    "one build 10 % slow, the next one not": ([], "unlucky", 0.1),
    "10 % more computation, builds vary by 2 %": (["compute=0.15"], "varied", 0.1),
}
_LOADED = ("nothing", "10 % more computation")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing and write the table. Return 1 if an error rate is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", type=int, default=200, help="gates of a program against itself (%(default)s)")
    parser.add_argument("--only", choices=("commands", "answers"))
    parser.add_argument("--folder", type=Path, default=Path("results/runs/gate-proof"), help="(%(default)s)")
    options = parser.parse_args(argv)
    return measuring(lambda: _prove(options), "the gates so far are recorded; the same command continues")


def _prove(options: argparse.Namespace) -> int:
    options.folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(options.folder / JOURNAL)
    with Progress(0) as progress:
        if options.only != "answers":
            _commands(options.folder, journal, options.gates, progress.note)
        if options.only != "commands":
            _answers(options.folder, journal, options.gates, progress.note)
    text, missed = markdown(events(options.folder))
    write_atomic(options.folder / "gates.md", text)
    print(text)
    return 1 if missed else 0


def _commands(folder: Path, journal: Journal, gates: int, note: Callable[[str], None]) -> None:
    done = [(event.case, event.load) for event in events(folder) if isinstance(event, CommandEvent)]
    plan = [(case, "as found", share) for case, (_, _, share) in _CASES.items()]
    plan += [(case, "loaded", 0.1) for case in _LOADED]
    for case, load, share in plan:
        count = max(2, round(gates * share))
        with busy_cores(load == "loaded" and done.count((case, load)) < count):
            for number in range(done.count((case, load)), count):
                note(f"gate {number + 1} of {count}, {load}: {case}")
                journal.write(**to_plain(_command_event(case, load)))


def _command_event(case: str, load: str) -> CommandEvent:
    words, build, _ = _CASES[case]
    script = [sys.executable, "-I", "-S", str(_HERE / "known_program.py"), f"work={_WORK}"]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / name for name in ("candidate", "reference")]
        for folder in folders:
            folder.mkdir()
            (folder / "build").write_text("1.0", encoding="utf-8")
        rebuild = None
        if build:
            rebuild = f"{sys.executable} -I -S {_HERE / 'known_build.py'} build {_BUILD_NOISE}"
            script += ["build=build"]
        if build == "unlucky":
            (folders[0] / "build").write_text(_UNLUCKY, encoding="utf-8")
        elif build:
            for folder in folders:
                os.system(f"cd {folder} && {rebuild}")
        runs = RunOptions(directory=folders[0], against_directory=folders[1], rebuild=rebuild)
        judgement = gate_command([*script, *words], script, runs=runs)
    first = [finding.name for finding in judgement.findings if finding.verdict == "fail" or finding.history]
    return CommandEvent(
        case=case,
        load=load,
        verdict=judgement.verdict,
        failed=[finding.name for finding in judgement.findings if finding.verdict == "fail"],
        failed_first=first,
        inconclusive=[finding.name for finding in judgement.findings if finding.verdict == "inconclusive"],
        turns=len(judgement.measurements[0]),
        seconds=time.monotonic() - start,
        load_1min=os.getloadavg()[0],
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=environment().commit,
    )


def _answers(folder: Path, journal: Journal, gates: int, note: Callable[[str], None]) -> None:
    done = [event.case for event in events(folder) if not isinstance(event, CommandEvent)]
    for case in ANSWER_CASES:
        for number in range(done.count(case.name), gates):
            if number % 20 == 0:
                note(f"answers {number + 1} of {gates}: {case.name}")
            journal.write(**to_plain(answer_event(case, number)))


if __name__ == "__main__":
    sys.exit(main())
