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

from runtime_matrix.experiments.cli.command import run_command
from runtime_matrix.experiments.execution.progress import Progress
from runtime_matrix.experiments.gates.baseline import difference, make_baseline, write_baseline
from runtime_matrix.experiments.gates.measure import measure_for_baseline
from runtime_matrix.experiments.gates.outputs import text_lines, write_outputs
from runtime_matrix.experiments.gates.request import GateRequest, judge, prepare_words
from runtime_matrix.experiments.records.store import check_writable

EXIT = {"pass": 0, "fail": 1, "inconclusive": 3}


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(argv, __doc__, _gate)


def _gate(words: Sequence[str]) -> int:
    request = prepare_words(words)
    if request.is_update:
        return _update(request)
    check_writable(request.output)
    judgement = judge(request)
    for line in text_lines(judgement, request.gate, has_baseline=request.baseline is not None):
        print(line)
    write_outputs(judgement, request.gate, request.output, request.reference.command)
    print(f"what CI systems read: {request.output}")
    return EXIT[judgement.verdict]


def _update(request: GateRequest) -> int:
    """Measure, and write what later runs are judged against."""
    assert request.baseline is not None
    with Progress(len(request.candidates) + 1, request.reference.config.progress) as progress:
        measured = measure_for_baseline(request.reference, request.candidates, request.gate, progress)
    failed = [(cell.label, cell.result.record) for cell in measured if cell.result.record.status != "ok"]
    for label, record in failed:
        print(f"{label}: {record.status}: {record.reason}; no baseline is written")
    if failed:
        return 3 if all(record.status == "unsupported" for _, record in failed) else 1
    for cell, found in zip(request.candidates, measured, strict=True):
        made = make_baseline(cell, found.result, found.against)
        changes = difference(request.baseline, made)
        print(f"wrote {write_baseline(made, request.baseline)}: {'; '.join(changes) or 'the same figures as before'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
