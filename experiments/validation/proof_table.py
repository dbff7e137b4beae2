"""The table of a proof: its figures as Markdown, and the goals that they miss."""

from __future__ import annotations

import json
from pathlib import Path

from msgspec.structs import replace

from runtime_matrix.experiments.records.schema import to_plain
from runtime_matrix.experiments.records.store import write_atomic
from runtime_matrix.experiments.validation.proof_figures import DRAWS, ProofFigures, Run, figures
from runtime_matrix.experiments.validation.proof_journal import Slowdown
from runtime_matrix.experiments.validation.proving import FOUND, INJECTIONS, LOADS

GOALS = {"false alarms": 0.01, "false alarms, confirmed": 0.001, "found at 5 %": 0.95}
_HARMLESS = ("unlucky_build",)  # kinds of injections that must not fail
_OPEN = ("threads",)  # may pass: half of the threads can be as fast for a small model


def shortfalls(proof: ProofFigures) -> list[str]:
    """Return missed goals and missing measurements. Inconclusive verdicts under load are not a miss."""
    missed = [f"not measured yet: {what}" for what in _absent(proof)]
    for name, launches in proof.launches.items():
        same, slowed = launches.drawn["0.0"], launches.drawn[str(FOUND)]
        for key, goal in (("fail", "false alarms"), ("fail_confirmed", "false alarms, confirmed")):
            if same[key] > GOALS[goal]:
                missed.append(f"{name}: {goal} {100 * same[key]:.2f} %")
        if "quiet" in name and slowed["fail_confirmed"] < GOALS["found at 5 %"]:
            missed.append(f"{name}: a 5 % slowdown found {100 * slowed['fail_confirmed']:.1f} %")
        if slowed["pass"] > 1 - GOALS["found at 5 %"]:
            missed.append(f"{name}: a 5 % slowdown passes {100 * slowed['pass']:.1f} %")
    for gates in proof.gates:
        kind = gates.injection[0] if gates.injection else None
        if kind in _OPEN:
            continue
        is_harmless = kind is None or kind in _HARMLESS
        wrong = gates.failed if is_harmless else gates.passed
        if wrong:
            missed.append(f"real gates, {gates.load}, {_injection_text(gates.injection)}: {wrong} of {gates.n} wrong")
    by_weights = {event.weights: event.verdict for event in proof.accuracy}
    for weights, allowed in (("3 bits", ("fail",)), ("the same", ("pass", "inconclusive"))):
        if weights in by_weights and by_weights[weights] not in allowed:
            missed.append(f"accuracy of {weights}: {by_weights[weights]}")
    return missed


def _absent(proof: ProofFigures) -> list[str]:
    """Return the parts of a complete proof that are not measured yet."""
    launches = " ".join(proof.launches)
    gates = {(gates.load, gates.injection) for gates in proof.gates}
    parts = {f"launches, {name}": name in launches for name in (*(f"eager, {load}" for load in LOADS), "fake, quiet")}
    kinds = [("quiet", None), *(("quiet", (known.kind, known.size)) for known in INJECTIONS), ("loaded", None)]
    parts |= {
        f"real gates, {load}, {_injection_text(injection)}": (load, injection) in gates for load, injection in kinds
    }
    parts["accuracy"] = bool(proof.accuracy)
    return [name for name, is_measured in parts.items() if not is_measured]


def write_table(folder: Path) -> tuple[Path, list[str]]:
    """Write `proof.md` and `proof.json`; return the path of the former and the missed goals."""
    incomplete = figures(folder)
    proof = replace(incomplete, missed=shortfalls(incomplete))
    write_atomic(folder / "proof.json", json.dumps(to_plain(proof), indent=1, allow_nan=False) + "\n")
    write_atomic(folder / "proof.md", markdown(proof))
    return folder / "proof.md", proof.missed


def markdown(proof: ProofFigures) -> str:
    """Return the tables of a proof."""
    machine = proof.machine
    lines = [
        "# How often are the gates wrong?",
        "",
        f"{machine.processor}, {machine.cores} cores, torch {machine.versions['torch']}; "
        "`python -m experiments.proof`. Gate `ci`: a loss of 2 % does not "
        "matter, one of 5 % must be found; looks after 6, 10, 15 and 20 launches, by wall time at the cell's own "
        "threads and by CPU time of one thread. Inserted computation shows as about one point more, since it "
        "cools the caches.",
        "",
        "| day | commit | instruction sets | load, 1 min | launches | gates | accuracy |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
        *map(_run_line, proof.runs),
        "",
        f"## {DRAWS:,} gates drawn from recorded launches",
        "",
        "| runtime, load, clock | launches | load, 1 min | noise per launch | inserted | seen | fails | fails twice | "
        "passes | inconclusive | launches used |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, launches in proof.launches.items():
        for slowdown, shares_by_verdict in launches.drawn.items():
            shares = " | ".join(
                _percent(shares_by_verdict[key]) for key in ("fail", "fail_confirmed", "pass", "inconclusive")
            )
            lines.append(
                f"| {name} | {launches.launches} | {launches.load_1min:.1f} | {100 * launches.noise:.2f} % | "
                f"{100 * float(slowdown):g} % | {100 * launches.seen[slowdown]:.1f} % | {shares} | "
                f"{shares_by_verdict['launches']:.1f} |"
            )
    lines += [
        "",
        "## Real gates, from start to verdict",
        "",
        "| load | injected | n | failed before repetition | fail [95 %] | pass | inconclusive | launches | s |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for gates in proof.gates:
        low, high = gates.fail_interval
        lines.append(
            f"| {gates.load} | {_injection_text(gates.injection)} | {gates.n} | {gates.fail_before} | "
            f"{gates.failed} [{100 * low:.0f} %, {100 * high:.0f} %] | {gates.passed} | {gates.inconclusive} | "
            f"{gates.launches:.1f} | {gates.seconds:.0f} |"
        )
    lines += ["", "## Accuracy, margin of three points (perplexity: 0.03 nats per token)", ""]
    for event in proof.accuracy:
        finding_lines = (f"- {finding.verdict}: {finding.message}" for finding in event.findings)
        lines += [f"Weights: {event.weights}: **{event.verdict}**", "", *finding_lines, ""]
    lines.append("Missed: " + "; ".join(proof.missed) if proof.missed else "Every goal is met.")
    return "\n".join(lines) + "\n"


def _run_line(run: Run) -> str:
    load = "unknown" if run.load_1min is None else f"{run.load_1min[0]:.1f} to {run.load_1min[1]:.1f}"
    return (
        f"| {run.day} | {run.commit} | {run.instruction_sets} | {load} | {run.launch} | {run.gate} | {run.accuracy} |"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _injection_text(injection: Slowdown | None) -> str:
    if injection is None:
        return "unchanged"
    kind, size = injection
    return {
        "threads": "half of the threads",
        "rare": f"one step in fifty takes {1 + size:g} times as long",
        "late": f"steps behind 72 tokens take {1 + size:g} times as long",
        "unlucky_build": f"one build slower by {100 * size:g} %, the next one not",
        "build": f"all builds slower, by {300 * size:g} ± {100 * size:g} %",
        "child": f"{100 * size:g} % more, in a child process",
        "sleep": f"{100 * size:g} % more, asleep",
        "disk": f"{100 * size:g} % more, writing to disk",
    }.get(kind, f"{100 * size:g} % more, computing")
