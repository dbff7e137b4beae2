"""A gate as requested on the command line or in a test: checked first, then measured and judged."""

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
    """A checked request. `baseline` is a folder, or None; `output` is the folder of the output files."""

    gate: GateConfig
    reference: Cell
    candidates: list[Cell]
    baseline: Path | None
    output: Path
    is_update: bool


def prepare_words(words: Sequence[str]) -> GateRequest:
    """Parse and check a command line. UserError for the first mistake; nothing is measured."""
    own, hydra_words = own_words(words, _OWN)
    if own["update"] not in ("true", "false"):
        raise UserError(f"update={own['update']} must be true or false")
    if own["update"] == "true" and own["baseline"] is None:
        raise UserError("update=true needs a folder to write into: baseline=DIR")
    gate_words = [word for word in hydra_words.overrides if word.lstrip("+~").startswith("gate.")]
    gate = build(GateConfig, compose_gate(str(own["gate"]), gate_words), "gate")
    check(gate)
    baseline = None if own["baseline"] is None else Path(own["baseline"])
    extra = ["resume=false", f"benchmark=[{','.join(gate.benchmarks(baseline is not None))}]"]
    command = recorded_command("gate", words)
    remaining = replace(hydra_words, overrides=[word for word in hydra_words.overrides if word not in gate_words])
    reference, candidates = cells(remaining, str(own["against"]), command, extra)
    if reference.config.resume:
        raise UserError("resume=true is not possible: a gate judges fresh measurements; leave it out")
    labels = [cell.label for cell in candidates]
    if len(set(labels)) < len(labels):
        raise UserError("two cells have the same runtime name: give each variant its own runtime.name=…")
    output = Path(own["output"] or f"{reference.config.results_dir}/gate")
    return GateRequest(gate, reference, candidates, baseline, output, own["update"] == "true")


def judge(request: GateRequest) -> GateResult:
    """Measure and judge. UserError for a baseline that is not comparable."""
    candidates, config = _with_baselines(request), request.reference.config
    with Progress(len(candidates) + 1, config.progress) as progress:
        for line in warnings(Path(config.results_dir), request.gate):
            progress.note(line)
        judgement = run_gate(request.reference, candidates, request.gate, progress)
    return replace(judgement, findings=[*judgement.findings, *_of_cells(request)])


def _with_baselines(request: GateRequest) -> list[Candidate]:
    if request.baseline is None:
        return [Candidate(cell, None) for cell in request.candidates]
    baselines = read_baselines(request.baseline)
    missing = [cell.label for cell in request.candidates if cell.label not in baselines]
    if missing:
        raise UserError(
            f"baseline={request.baseline} holds no {missing[0]} (only {', '.join(baselines)}): update=true adds it"
        )
    return [Candidate(cell, baselines[cell.label]) for cell in request.candidates]


def _of_cells(request: GateRequest) -> list[LimitResult]:
    """Return the findings on the set of cells."""
    baselines = {} if request.baseline is None else read_baselines(request.baseline)
    present = [cell.label for cell in request.candidates]
    chosen = request.gate.chosen(request.baseline is not None)
    return [finding for limits, value in chosen for finding in limits.judge_cells(value, present, list(baselines))]
