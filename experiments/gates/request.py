"""A gate as words ask for it, on the command line or in a test: checked, then measured and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.overrides import cells, own_words
from runtime_matrix.experiments.config.compose import compose_gate
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import recorded_command
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.execution.progress import Progress
from runtime_matrix.experiments.gates.baseline import read_baselines
from runtime_matrix.experiments.gates.calibration import warnings
from runtime_matrix.experiments.gates.findings import LimitResult
from runtime_matrix.experiments.gates.limits import GateConfig, check
from runtime_matrix.experiments.gates.measure import Candidate, GateResult, run_gate

_OWN = {"gate": "ci", "baseline": None, "update": "false", "against": "eager", "output": None}


@dataclass(frozen=True)
class GateRequest:
    """What a command line asks for."""

    gate: GateConfig
    reference: Cell
    candidates: list[Cell]
    baseline: Path | None
    output: Path
    is_update: bool


def prepare_words(words: Sequence[str]) -> GateRequest:
    """Check all that the command line and the configuration alone show; UserError for the first mistake."""
    own, given = own_words(words, _OWN)
    if own["update"] not in ("true", "false"):
        raise UserError(f"update={own['update']}: true or false")
    if own["update"] == "true" and own["baseline"] is None:
        raise UserError("update=true needs a folder to write into: baseline=DIR")
    for_gate = [word for word in given.overrides if word.lstrip("+~").startswith("gate.")]
    gate = build(GateConfig, compose_gate(str(own["gate"]), for_gate), "gate")
    check(gate)
    baseline = None if own["baseline"] is None else Path(own["baseline"])
    extra = ["resume=false", f"benchmark=[{','.join(gate.benchmarks(baseline is not None))}]"]
    command = recorded_command("gate", words)
    left = replace(given, overrides=[word for word in given.overrides if word not in for_gate])
    reference, candidates = cells(left, str(own["against"]), command, extra)
    if reference.config.resume:
        raise UserError("resume=true: a gate measures what it judges; leave it out")
    labels = [cell.label for cell in candidates]
    if len(set(labels)) < len(labels):
        raise UserError("a gate tells its cells apart by their runtime's name: give each variant runtime.name=…")
    output = Path(own["output"] or f"{reference.config.results_dir}/gate")
    return GateRequest(gate, reference, candidates, baseline, output, own["update"] == "true")


def judge(request: GateRequest) -> GateResult:
    """Measure and judge. UserError for a baseline that cannot be compared with."""
    candidates, config = _with_baselines(request), request.reference.config
    with Progress(len(candidates) + 1, config.progress) as progress:
        for line in warnings(Path(config.results_dir), request.gate):
            progress.note(line)
        judgement = run_gate(request.reference, candidates, request.gate, progress)
    return replace(judgement, findings=[*judgement.findings, *_of_cells(request)])


def _with_baselines(request: GateRequest) -> list[Candidate]:
    if request.baseline is None:
        return [Candidate(cell, None) for cell in request.candidates]
    kept = read_baselines(request.baseline)
    missing = [cell.label for cell in request.candidates if cell.label not in kept]
    if missing:
        raise UserError(
            f"baseline={request.baseline} holds no {missing[0]} (only {', '.join(kept)}): update=true adds it"
        )
    return [Candidate(cell, kept[cell.label]) for cell in request.candidates]


def _of_cells(request: GateRequest) -> list[LimitResult]:
    """Return what the gate finds of the cells as a whole."""
    kept = {} if request.baseline is None else read_baselines(request.baseline)
    present = [cell.label for cell in request.candidates]
    chosen = request.gate.chosen(request.baseline is not None)
    return [finding for limits, value in chosen for finding in limits.judge_cells(value, present, list(kept))]
