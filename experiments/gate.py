"""Check runtimes against limits: a gate for CI.

  python -m experiments.gate                                             eager against itself: false alarms
  python -m experiments.gate runtime=onnxruntime                         the limits of conf/gate/ci.yaml, against eager
  python -m experiments.gate -m runtime=compile,onnxruntime              several runtimes, measured together
  python -m experiments.gate runtime=compile baseline=DIR                against a stored baseline as well
  python -m experiments.gate runtime=compile baseline=DIR update=true    write or replace that baseline
  python -m experiments.gate gate=speed gate.must_find=0.1               another gate and another loss to detect

Anything else can be judged as well; --help after these words describes each:

  python -m experiments.gate --command 'A' --against 'B'                 any two programs: time, memory, numbers
  python -m experiments.gate --answers NEW OLD --margin 1pt              answers: lm-eval, inspect_ai, EvalPlus, ours

Own options: gate (an option of conf/gate, or a YAML file; ci), baseline (a folder), update, against (the reference
runtime; eager), output (a folder for the summary and the files for CI systems; RESULTS_DIR/gate). It also takes gate.*
and all overrides of `python -m experiments.run`.

Exit codes: 0 every limit holds; 1 a limit is broken, also in a second measurement; 2 a user's mistake; 3 inconclusive:
too much noise, a missing cell or benchmark, or nothing measured; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from runtime_matrix.experiments.cli import gate_answers, gate_command
from runtime_matrix.experiments.cli.command import run_command
from runtime_matrix.experiments.cli.gate_flags import EXIT
from runtime_matrix.experiments.execution.progress import Progress
from runtime_matrix.experiments.gates.baseline import difference, make_baseline, write_baseline
from runtime_matrix.experiments.gates.measure import measure_for_baseline
from runtime_matrix.experiments.gates.outputs import report_of, text_lines, write_outputs
from runtime_matrix.experiments.gates.request import GateRequest, judge, prepare_words
from runtime_matrix.experiments.records.store import check_writable

_WITHOUT_CELLS: dict[str, Callable[[Sequence[str]], int]] = {
    "--command": gate_command.main,
    "--answers": gate_answers.main,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Judge the runtimes, or write a baseline; the module's docstring has the exit codes."""
    words = list(sys.argv[1:] if argv is None else argv)
    for word in words:
        gate = _WITHOUT_CELLS.get(word.partition("=")[0])
        if gate is not None:
            return gate(words)
    return run_command(words, __doc__, _gate)


def _gate(words: Sequence[str]) -> int:
    request = prepare_words(words)
    if request.is_update:
        return _update(request)
    check_writable(request.output)
    report = report_of(judge(request), request.gate, request.reference.command)
    print("\n".join(text_lines(report)))
    if request.baseline is None:
        print("  not judged: gate.baseline, since no baseline=DIR is given")
    write_outputs(report, request.output)
    print(f"files for CI systems: {request.output}")
    return EXIT[report.verdict]


def _update(request: GateRequest) -> int:
    """Measure the candidates and write their baselines, which later runs are judged against."""
    assert request.baseline is not None
    with Progress(len(request.candidates) + 1, request.reference.config.progress) as progress:
        measured = measure_for_baseline(request.reference, request.candidates, request.gate, progress)
    failed = [(cell.label, cell.result.record) for cell in measured if cell.result.record.status != "ok"]
    for label, record in failed:
        print(f"{label}: {record.status}: {record.reason}; no baseline is written")
    if failed:
        return 3 if all(record.status == "unsupported" for _, record in failed) else 1
    for cell, outcome in zip(request.candidates, measured, strict=True):
        baseline = make_baseline(cell, outcome.result, outcome.against)
        changes = difference(request.baseline, baseline)
        print(
            f"wrote {write_baseline(baseline, request.baseline)}: {'; '.join(changes) or 'the same figures as before'}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
