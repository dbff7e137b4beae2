"""Judge runtimes by limits: a gate for CI.

  python -m experiments.gate                                             eager against itself: what this machine sees
  python -m experiments.gate runtime=onnxruntime                         by conf/gate/ci.yaml, against eager
  python -m experiments.gate -m runtime=compile,onnxruntime              several, measured together
  python -m experiments.gate runtime=compile baseline=DIR                against what an earlier run left as well
  python -m experiments.gate runtime=compile baseline=DIR update=true    make or renew that baseline
  python -m experiments.gate gate=speed gate.must_find=0.1               another gate, another loss that must be found

Words of its own: gate (an option of conf/gate, or a YAML file; ci), baseline (a folder), update, against (the reference
runtime; eager), output (a folder for the summary and the files that CI systems read; RESULTS_DIR/gate). All of Hydra's
overrides of `python -m experiments.run` are taken, gate.* among them.

Exit codes: 0 every limit holds; 1 one is broken, also when measured once more; 2 a mistake; 3 inconclusive: too much
noise to tell, a cell or a benchmark missing, nothing measured; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runtime_matrix.experiments.command import run_command
from runtime_matrix.experiments.errors import UserError
from runtime_matrix.experiments.program import recorded_command

if TYPE_CHECKING:
    from runtime_matrix.experiments.cells.plan import Cell
    from runtime_matrix.experiments.gates.findings import Finding
    from runtime_matrix.experiments.gates.limits import GateConfig
    from runtime_matrix.experiments.gates.measure import Candidate, Judgement

_OWN = {"gate": "ci", "baseline": None, "update": "false", "against": "eager", "output": None}
EXIT = {"pass": 0, "fail": 1, "inconclusive": 3}


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(argv, __doc__, _gate)


def _gate(words: Sequence[str]) -> int:
    from runtime_matrix.experiments.gates.outputs import text_lines, write_outputs
    from runtime_matrix.experiments.records.store import check_writable

    asked = prepare_words(words)
    if asked.is_update:
        return _update(asked)
    check_writable(asked.output)
    judgement = judge(asked)
    for line in text_lines(judgement, asked.gate, has_baseline=asked.baseline is not None):
        print(line)
    write_outputs(judgement, asked.gate, asked.output, asked.reference.command)
    print(f"what CI systems read: {asked.output}")
    return EXIT[judgement.verdict]


@dataclass(frozen=True)
class Asked:
    """What a command line asks for."""

    gate: GateConfig
    reference: Cell
    candidates: list[Cell]
    baseline: Path | None
    output: Path
    is_update: bool


def prepare_words(words: Sequence[str]) -> Asked:
    """Check all that the command line and the configuration alone show; UserError for the first mistake."""
    from runtime_matrix.experiments.compose import compose_gate
    from runtime_matrix.experiments.gates.limits import GateConfig, check
    from runtime_matrix.experiments.pairing import cells, own_words
    from runtime_matrix.experiments.strict import build

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
    return Asked(gate, reference, candidates, baseline, output, own["update"] == "true")


def judge(asked: Asked) -> Judgement:
    """Measure and judge. UserError for a baseline that cannot be compared with."""
    from runtime_matrix.experiments.gates.calibration import warnings
    from runtime_matrix.experiments.gates.measure import run_gate
    from runtime_matrix.experiments.progress import Progress

    candidates, config = _with_baselines(asked), asked.reference.config
    with Progress(len(candidates) + 1, config.progress) as progress:
        for line in warnings(Path(config.results_dir), asked.gate):
            progress.note(line)
        judgement = run_gate(asked.reference, candidates, asked.gate, progress)
    return replace(judgement, findings=[*judgement.findings, *_absent(asked)])


def _with_baselines(asked: Asked) -> list[Candidate]:
    from runtime_matrix.experiments.gates.baseline import read_baselines
    from runtime_matrix.experiments.gates.measure import Candidate

    if asked.baseline is None:
        return [Candidate(cell, None) for cell in asked.candidates]
    kept = read_baselines(asked.baseline)
    missing = [cell.label for cell in asked.candidates if cell.label not in kept]
    if missing:
        raise UserError(
            f"baseline={asked.baseline} holds no {missing[0]} (only {', '.join(kept)}): update=true adds it"
        )
    return [Candidate(cell, kept[cell.label]) for cell in asked.candidates]


def _absent(asked: Asked) -> list[Finding]:
    """Return a finding for each cell of the baseline that the run lacks, where the gate wants all."""
    from runtime_matrix.experiments.gates.baseline import read_baselines
    from runtime_matrix.experiments.gates.findings import Finding

    if asked.baseline is None or not asked.gate.baseline.all_cells:
        return []
    kept = read_baselines(asked.baseline)
    present = {cell.label for cell in asked.candidates}
    said = "in the baseline and not in this run; add it with -m runtime=…, or remove its file"
    return [Finding(label, "cell", "inconclusive", said) for label in kept if label not in present]


def _update(asked: Asked) -> int:
    """Measure, and write what later runs are judged against."""
    from runtime_matrix.experiments.gates.baseline import difference, make_baseline, write_baseline
    from runtime_matrix.experiments.gates.measure import measure_for_baseline
    from runtime_matrix.experiments.progress import Progress

    assert asked.baseline is not None
    with Progress(len(asked.candidates) + 1, asked.reference.config.progress) as progress:
        measured = measure_for_baseline(asked.reference, asked.candidates, asked.gate, progress)
    failed = [(cell.label, cell.result.record) for cell in measured if cell.result.record.status != "ok"]
    for label, record in failed:
        print(f"{label}: {record.status}: {record.reason}; no baseline is written")
    if failed:
        return 3 if all(record.status == "unsupported" for _, record in failed) else 1
    for cell, found in zip(asked.candidates, measured, strict=True):
        made = make_baseline(cell, found.result, found.against)
        changes = difference(asked.baseline, made)
        print(f"wrote {write_baseline(made, asked.baseline)}: {'; '.join(changes) or 'the same figures as before'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
