"""What a proof measures and keeps: launches and gates with slowdowns of known size, a line each as they come."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.cells.plan import Cell
from experiments.comparison.speed import Runner, launch
from experiments.gates.limits import GateConfig
from experiments.gates.load import busy_cores
from experiments.gates.measure import Candidate, run_gate
from experiments.progress import Progress
from experiments.records.journal import Journal, read_journal
from experiments.strict import build

STAGES = ("launches", "gates", "accuracy")
# Shares of a call's time that are inserted; spinning cools the caches, so that about one point more is seen.
SLOWDOWNS = (0.0, 0.04, 0.09)
FOUND = SLOWDOWNS[1]  # the one that a gate promises to find, of about 5 %
LOADS = ("quiet", "loaded")
MARGIN = 0.03
# Matrix products a forward of the scripted runtime: about the time of the bundled model's.
_FAKE = ["model=random", "runtime.engine.work=40"]
_ONE_BENCHMARK = ["benchmark=[memory]", "agreement.enabled=false", "progress=false"]


class Proof:
    """Measures what is still missing from the journal."""

    def __init__(self, runtimes: Sequence[str], overrides: Sequence[str], command: str, launches: int, gates: int):
        self._runtimes, self._overrides, self._command = list(runtimes), list(overrides), command
        self._launches, self._gates = launches, gates
        self.folder = Path(self._cell("eager").config.results_dir) / "proof"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(self.folder / "journal.jsonl")

    def launches(self, progress: Progress) -> None:
        """Record launches of each runtime beside itself, slowed by each size, quiet and under load."""
        for load in LOADS:
            for runtime in self._runtimes if load == "quiet" else self._runtimes[:1]:
                self._launch(runtime, load, progress)

    def gates(self, progress: Progress) -> None:
        """Run whole gates: as many of each kind as were asked for, half as many of the less telling ones."""
        wanted = {("quiet", 0.0): self._gates, ("quiet", FOUND): self._gates}
        fewer = (self._gates + 1) // 2
        wanted |= {("quiet", SLOWDOWNS[2]): fewer, ("loaded", 0.0): fewer, ("loaded", FOUND): fewer}
        done = [(one["load"], one["slowdown"]) for one in kept(self.folder, "gate")]
        for (load, slowdown), count in wanted.items():
            for number in range(done.count((load, slowdown)), count):
                progress.note(f"gate {number + 1} of {count}, {load}, slowed by {100 * slowdown:g} %")
                self._gate(load, slowdown)

    def accuracy(self, progress: Progress) -> None:
        """Judge weights rounded to 3 bits, and a runtime against itself, by a three-point margin."""
        done = {one["weights"] for one in kept(self.folder, "accuracy")}
        gate = _gate("ci", ["gate.reference.speedup={}", f"gate.reference.accuracy={_margins()}"])
        chosen = f"benchmark=[{','.join(gate.benchmarks(False))}]"
        for name, words in (("3 bits", ["runtime/weights=rounded", "runtime.weights.bits=3"]), ("the same", [])):
            if name in done:
                continue
            progress.note(f"accuracy: {name}")
            reference, candidate = self._pair(["runtime=eager", *words, chosen, "agreement.enabled=false"], "eager")
            judgement = run_gate(reference, [Candidate(candidate, None)], gate, Progress(2, False))
            found = [{"name": one.name, "verdict": one.verdict, "message": one.message} for one in judgement.findings]
            self._journal.write("accuracy", weights=name, verdict=judgement.verdict, findings=found)

    def _launch(self, runtime: str, load: str, progress: Progress) -> None:
        cell = self._cell(runtime)
        done = len([one for one in kept(self.folder, "launch") if (one["runtime"], one["load"]) == (runtime, load)])
        with busy_cores(load == "loaded" and done < self._launches):
            for number in range(done, self._launches):
                progress.note(f"launch {number + 1} of {self._launches}: {runtime}, {load}")
                runners = [Runner(cell, self.folder, slowdown) for slowdown in (0.0, *SLOWDOWNS)]
                found = launch(runners, cell.config.comparison, random.Random(f"{runtime}{load}{number}"))
                if found.failures:
                    raise RuntimeError(f"a launch of {runtime} failed: {found.failures}")
                rounds = [found.rounds[index] for index in range(len(runners))]
                self._journal.write(
                    "launch", runtime=runtime, load=load, rounds=rounds, load_1min=found.load_1min, slowdowns=SLOWDOWNS
                )

    def _gate(self, load: str, slowdown: float) -> None:
        reference, candidate = self._pair(["runtime=eager", *_ONE_BENCHMARK], "eager")
        start = time.monotonic()
        with busy_cores(load == "loaded"):
            judged = run_gate(reference, [Candidate(candidate, None, slowdown)], _gate("speed", []), Progress(2, False))
        (found,) = judged.findings
        self._journal.write(
            "gate",
            load=load,
            slowdown=slowdown,
            verdict=judged.verdict,
            was_repeated=judged.was_repeated,
            launches=found.n,
            seconds=time.monotonic() - start,
            message=found.message,
        )

    def _cell(self, runtime: str) -> Cell:
        words = [f"runtime={runtime}", *(_FAKE if runtime == "fake" else []), *_ONE_BENCHMARK]
        return self._pair(words, runtime)[1]

    def _pair(self, words: Sequence[str], against: str) -> tuple[Cell, Cell]:
        from experiments.pairing import cells

        reference, (candidate,) = cells([*self._overrides, *words], against, self._command)
        return reference, candidate


def kept(folder: Path, event: str) -> list[dict[str, Any]]:
    return [one for one in read_journal(folder / "journal.jsonl") if one["event"] == event]


def _gate(name: str, words: Sequence[str]) -> GateConfig:
    from experiments.compose import compose_gate

    gate: GateConfig = build(GateConfig, compose_gate(name, words), "gate")
    if "gate.reference.speedup={}" in words:  # merged into the option's mapping, an empty one changes nothing
        gate = replace(gate, reference=replace(gate.reference, speedup={}))
    return gate


def _margins() -> str:
    names = ("perplexity", "multiple_choice", "code", "extractive_qa", "summarization")
    return "{" + ",".join(f"{name}: {MARGIN}" for name in names) + "}"
