"""The measurements of a proof: launches and gates with injected slowdowns of known size, one journal line each."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import UNSET
from msgspec.structs import asdict

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.overrides import cells
from runtime_matrix.experiments.config.arguments import read_arguments
from runtime_matrix.experiments.config.compose import compose_gate
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.execution.progress import Progress
from runtime_matrix.experiments.gates.limits import ACCURACY, GateConfig
from runtime_matrix.experiments.gates.measure import Candidate, run_gate
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.journal import Journal
from runtime_matrix.experiments.records.ratios import Clock, log_ratios
from runtime_matrix.experiments.records.schema import to_plain
from runtime_matrix.experiments.timing.injection import Injection
from runtime_matrix.experiments.timing.launch import launch
from runtime_matrix.experiments.timing.runner import Runner
from runtime_matrix.experiments.validation.load import busy_cores
from runtime_matrix.experiments.validation.proof_journal import (
    JOURNAL,
    AccuracyEvent,
    AccuracyFinding,
    Event,
    GateEvent,
    LaunchEvent,
    Slowdown,
    Stamp,
    kept,
)

STAGES = ("launches", "gates", "accuracy")
# Inserted shares of a call's time. Spinning evicts caches, so that about one point more is measured.
SLOWDOWNS = (0.0, 0.01, 0.04)
FOUND = SLOWDOWNS[2]  # about 5 %, which a gate must find
LOADS = ("quiet", "loaded")
# Injections of real gates, in addition to an unchanged runtime. All are relevant slowdowns, except for a single slow
# build, which the gate's repetition with a new build must not confirm.
INJECTIONS = (
    Injection("compute", 0.04),
    Injection("compute", 0.09),
    Injection("sleep", 0.1),
    Injection("disk", 0.1),
    Injection("threads", 0.0),
    Injection("child", 0.1),
    Injection("rare", 9.0),
    Injection("late", 1.0),
    Injection("build", 0.02),
    Injection("unlucky_build", 0.1),
)
MARGIN = 0.03
# Matrix products per forward pass of the scripted runtime: about the time of the bundled model.
_FAKE = ["model=random", "runtime.engine.work=40"]
_OF_SPEED = ["~gate.reference.accuracy"]
_OF_ANSWERS = ["~gate.reference.speedup", "~gate.reference.cpu_speedup", "~gate.reference.outputs"]
_ONE_BENCHMARK = ["benchmark=[memory,latency]", "progress=false"]


class Proof:
    """Measures the parts that are missing in the journal."""

    def __init__(self, runtimes: Sequence[str], overrides: Sequence[str], command: str, launches: int, gates: int):
        self._runtimes, self._overrides, self._command = list(runtimes), list(overrides), command
        self._launches, self._gates = launches, gates
        self.folder = Path(self._cell("eager").config.results_dir) / "proof"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(self.folder / JOURNAL)

    def launches(self, progress: Progress) -> None:
        """Record launches of each runtime against itself, slowed by each size, on a quiet and on a loaded machine."""
        for load in LOADS:
            for runtime in self._runtimes if load == "quiet" else self._runtimes[:1]:
                self._launch(runtime, load, progress)

    def gates(self, progress: Progress) -> None:
        """Run whole gates: the requested number for an unchanged runtime and for a slowdown of 5 %, half as many for
        the other injections and under load.
        """
        half_count = (self._gates + 1) // 2
        counts: dict[tuple[str, Injection | None], int] = {("quiet", None): self._gates}
        counts |= {("quiet", injection): half_count for injection in INJECTIONS}
        counts |= {
            ("quiet", INJECTIONS[0]): self._gates,
            ("loaded", None): half_count,
            ("loaded", INJECTIONS[0]): half_count,
        }
        done = [(event.load, event.injection) for event in kept(self.folder, GateEvent)]
        for (load, injection), count in counts.items():
            for number in range(done.count((load, _slowdown(injection))), count):
                progress.note(f"gate {number + 1} of {count}, {load}, {_injection_text(injection)}")
                self._gate(load, injection)

    def accuracy(self, progress: Progress) -> None:
        """Judge weights rounded to 3 bits and a runtime against itself, with a margin of three points."""
        done = {event.weights for event in kept(self.folder, AccuracyEvent)}
        gate = _gate("ci", [*_OF_ANSWERS, f"gate.reference.accuracy={_margins()}"])
        benchmark_word = f"benchmark=[{','.join(gate.benchmarks(False))}]"
        for name, words in (("3 bits", ["runtime/weights=rounded", "runtime.weights.bits=3"]), ("the same", [])):
            if name in done:
                continue
            progress.note(f"accuracy: {name}")
            reference, candidate = self._pair(
                ["runtime=eager", *words, benchmark_word, "agreement.enabled=false"], "eager"
            )
            judgement = run_gate(reference, [Candidate(candidate, None)], gate, Progress(2, False))
            findings = [
                AccuracyFinding(name=finding.name, verdict=finding.verdict, message=finding.figures)
                for finding in judgement.findings
            ]
            self._write(AccuracyEvent(**asdict(_stamp()), weights=name, verdict=judgement.verdict, findings=findings))

    def _launch(self, runtime: str, load: str, progress: Progress) -> None:
        cell = self._cell(runtime)
        events = kept(self.folder, LaunchEvent)
        done = sum((event.runtime, event.load) == (runtime, load) for event in events)
        injections = [None, *(Injection("compute", slowdown) for slowdown in SLOWDOWNS)]
        runners = [Runner(cell, self.folder, injection) for injection in injections]
        options = replace(cell.config.comparison, batched=None)
        with busy_cores(load == "loaded" and done < self._launches):
            for number in range(done, self._launches):
                progress.note(f"launch {number + 1} of {self._launches}: {runtime}, {load}")
                measured = launch(runners, options)
                if measured.failures:
                    raise RuntimeError(f"a launch of {runtime} failed: {measured.failures}")
                launches = [measured.stored(index) for index in range(1, len(runners))]
                ratios = {
                    clock.value: [log_ratios([stored], "decode", clock)[0] for stored in launches]
                    for clock in (Clock.WALL, Clock.CPU)
                }
                self._write(
                    LaunchEvent(
                        **asdict(_stamp()), runtime=runtime, load=load, log_ratios=ratios, machine=measured.machine
                    )
                )

    def _gate(self, load: str, injection: Injection | None) -> None:
        reference, candidate = self._pair(["runtime=eager", *_ONE_BENCHMARK], "eager")
        start, gate = time.monotonic(), _gate("ci", _OF_SPEED)
        with busy_cores(load == "loaded"):
            judgement = run_gate(reference, [Candidate(candidate, None, injection)], gate, Progress(2, False))
        self._write(
            GateEvent(
                **asdict(_stamp()),
                load=load,
                injection=_slowdown(injection),
                verdict=judgement.verdict,
                was_repeated=judgement.was_repeated,
                launches=max(finding.n or 0 for finding in judgement.findings),
                seconds=time.monotonic() - start,
                load_1min=os.getloadavg()[0],
                findings=[(finding.name, finding.verdict, finding.figures) for finding in judgement.findings],
            )
        )

    def _write(self, event: Event) -> None:
        self._journal.write(**to_plain(event))

    def _cell(self, runtime: str) -> Cell:
        words = [f"runtime={runtime}", *(_FAKE if runtime == "fake" else []), *_ONE_BENCHMARK]
        return self._pair(words, runtime)[1]

    def _pair(self, words: Sequence[str], against: str) -> tuple[Cell, Cell]:
        reference, (candidate,) = cells(read_arguments([*self._overrides, *words]), against, self._command)
        return reference, candidate


def _stamp() -> Stamp:
    local_environment = environment()
    return Stamp(
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=local_environment.commit,
        instruction_sets=local_environment.instruction_sets
        if local_environment.instruction_sets is not UNSET
        else None,
        instruction_limits=local_environment.instruction_limits
        if local_environment.instruction_limits is not UNSET
        else None,
    )


def _slowdown(injection: Injection | None) -> Slowdown | None:
    return None if injection is None else (injection.kind, injection.size)


def _injection_text(injection: Injection | None) -> str:
    return "unchanged" if injection is None else f"{injection.kind} {injection.size:g}"


def _gate(name: str, words: Sequence[str]) -> GateConfig:
    gate: GateConfig = build(GateConfig, compose_gate(name, words), "gate")
    return gate


def _margins() -> str:
    return "{" + ",".join(f"{name}: {MARGIN}" for name in ACCURACY) + "}"
