"""The figures of a proof from its journal: false alarms and detections of resampled and of real gates."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace

from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.ratios import Clock
from runtime_matrix.experiments.statistics.sequential import Rule, look
from runtime_matrix.experiments.statistics.shares import exact_proportion
from runtime_matrix.experiments.validation.proof_journal import (
    AccuracyEvent,
    Event,
    GateEvent,
    LaunchEvent,
    Slowdown,
    kept,
    read_events,
)
from runtime_matrix.experiments.validation.proving import SLOWDOWNS

DRAWS = 20_000
RULE = Rule(math.log1p(0.02), math.log1p(0.05), (6, 10, 15, 20))  # as in conf/gate/ci.yaml
_FEWEST = 3  # launches: with fewer the spread is unknown


class ProofMachine(Struct, frozen=True, kw_only=True):
    """The machine that computed the figures."""

    processor: str | None
    cores: int | None
    commit: str | None
    versions: dict[str, str | None]
    instruction_sets: list[str]


class Run(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The number of measurements on one day by one commit."""

    day: str
    commit: str
    instruction_sets: str
    launch: int = 0
    gate: int = 0
    accuracy: int = 0
    load_1min: tuple[float, float] | None  # least and most


class LaunchFigures(Struct, frozen=True, kw_only=True):
    """Figures of launches of one runtime, load and clock; dictionaries are by the inserted share."""

    launches: int
    noise: float
    load_1min: float
    log_ratios: dict[str, list[float]]
    seen: dict[str, float]
    drawn: dict[str, dict[str, float]]  # see `drawn`


class GateFigures(Struct, frozen=True, kw_only=True):
    """Verdicts of real gates for one injection under one load."""

    load: str
    injection: Slowdown | None
    n: int
    fail_before: int  # fails before the repetition
    failed: int = field(name="fail")
    passed: int = field(name="pass")
    inconclusive: int
    fail_interval: tuple[float, float]
    launches: float
    seconds: float


class ProofFigures(Struct, frozen=True, kw_only=True):
    """All figures of a proof, as in `proof.json`."""

    schema_version: int = 2
    machine: ProofMachine
    runs: list[Run]
    launches: dict[str, LaunchFigures]  # by runtime, load and clock
    gates: list[GateFigures]
    accuracy: list[AccuracyEvent]
    missed: list[str] = []  # goals


def figures(folder: Path) -> ProofFigures:
    """Return the figures of a proof's folder; `missed` is empty, see `proof_table.shortfalls`."""
    launches = kept(folder, LaunchEvent)
    kinds = Counter((event.runtime, event.load) for event in launches)
    return ProofFigures(
        machine=_machine(),
        runs=_runs(folder),
        launches={
            f"{runtime}, {load}, {clock.phrase}": _of_launches(
                [event for event in launches if (event.runtime, event.load) == (runtime, load)], clock
            )
            for (runtime, load), count in sorted(kinds.items())
            for clock in (Clock.CPU, Clock.WALL)
            if count >= _FEWEST
        },
        gates=_of_gates(kept(folder, GateEvent)),
        accuracy=kept(folder, AccuracyEvent),
    )


def _machine() -> ProofMachine:
    local_environment = environment()
    return ProofMachine(
        processor=local_environment.processor or None,
        cores=local_environment.cores or None,
        commit=local_environment.commit,
        versions=local_environment.versions,
        instruction_sets=local_environment.instruction_sets or [],
    )


def _runs(folder: Path) -> list[Run]:
    """Return the number of measurements and the load by day, commit and instruction sets."""
    runs: dict[tuple[str, str, str], Run] = {}
    for event in sorted(read_events(folder), key=lambda event: event.at):
        sets = ", ".join(event.instruction_sets or ["unknown"])
        key = (event.at[:10], (event.commit or "unknown")[:7], sets)
        run = runs.get(key) or Run(day=key[0], commit=key[1], instruction_sets=sets, load_1min=None)
        runs[key] = replace(
            run,
            launch=run.launch + isinstance(event, LaunchEvent),
            gate=run.gate + isinstance(event, GateEvent),
            accuracy=run.accuracy + isinstance(event, AccuracyEvent),
            load_1min=_widened(run.load_1min, _load(event)),
        )
    return list(runs.values())


def _load(event: Event) -> float | None:
    if isinstance(event, LaunchEvent):
        return event.machine.load_1min
    return event.load_1min if isinstance(event, GateEvent) else None


def _widened(range_: tuple[float, float] | None, load: float | None) -> tuple[float, float] | None:
    if load is None:
        return range_
    low, high = range_ or (load, load)
    return min(low, load), max(high, load)


def _of_launches(events: Sequence[LaunchEvent], clock: Clock) -> LaunchFigures:
    ratios = {
        slowdown: [event.log_ratios[clock.value][index] for event in events] for index, slowdown in enumerate(SLOWDOWNS)
    }
    loads = [load for event in events if (load := event.machine.load_1min) is not None]
    return LaunchFigures(
        launches=len(events),
        noise=float(np.std(ratios[0.0], ddof=1)),
        load_1min=float(np.median(loads)),
        log_ratios={str(slowdown): values for slowdown, values in ratios.items()},
        seen={str(slowdown): math.expm1(float(np.mean(values))) for slowdown, values in ratios.items()},
        drawn={str(slowdown): drawn(values) for slowdown, values in ratios.items()},
    )


def drawn(ratios: Sequence[float], draws: int = DRAWS) -> dict[str, float]:
    """Return the shares of verdicts of gates whose launches are resampled from these, with a repetition of fails."""
    source = random.Random(0)
    tally = {"fail": 0, "pass": 0, "inconclusive": 0}
    twice, used = 0, []
    for _ in range(draws):
        interim = look(source.choices(ratios, k=RULE.looks[-1]), RULE)
        tally[interim.verdict] += 1
        used.append(interim.launches)
        if interim.verdict == "fail":
            twice += look(source.choices(ratios, k=RULE.looks[-1]), RULE).verdict == "fail"
    shares = {verdict: count / draws for verdict, count in tally.items()}
    return {**shares, "fail_confirmed": twice / draws, "launches": float(np.mean(used)), "most": max(used)}


def _of_gates(events: Sequence[GateEvent]) -> list[GateFigures]:
    kinds = dict.fromkeys((event.load, event.injection) for event in events)
    return [
        _of_kind(load, injection, [event for event in events if (event.load, event.injection) == (load, injection)])
        for load, injection in kinds
    ]


def _of_kind(load: str, injection: Slowdown | None, events: Sequence[GateEvent]) -> GateFigures:
    verdicts = [event.verdict for event in events]
    interval = exact_proportion(verdicts.count("fail"), len(events))
    return GateFigures(
        load=load,
        injection=injection,
        n=len(events),
        fail_before=sum(event.was_repeated for event in events),
        failed=verdicts.count("fail"),
        passed=verdicts.count("pass"),
        inconclusive=verdicts.count("inconclusive"),
        fail_interval=(interval.low, interval.high),
        launches=float(np.mean([event.launches for event in events])),
        seconds=float(np.median([event.seconds for event in events])),
    )
