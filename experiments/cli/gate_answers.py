"""Check answers against a reference's, item by item: a gate for CI over the files of any evaluation program.

  python -m experiments.gate --answers NEW OLD --margin 1pt
  python -m experiments.gate --answers NEW OLD --margin 1pt --metric acc_norm --tasks arc_easy,piqa --each-task

NEW and OLD are files or folders: samples of lm-evaluation-harness (--log_samples), logs of inspect_ai, results of
EvalPlus, or a cell's folder of this program. The gate passes if the loss, pooled over all tasks, is shown to be less
than the margin, and fails if it is shown to be more. First it says which loss so many items can show. With
--sequential, the gate may be repeated while items are added.

Exit codes: 0 the limit holds; 1 it is broken; 2 a mistake: damaged files, or other tasks, items or questions;
3 inconclusive: too few items for the margin.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.answers.reading import formats
from runtime_matrix.experiments.cli.command import speaking
from runtime_matrix.experiments.cli.gate_flags import EXIT, margin, share
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import as_typed, command_line
from runtime_matrix.experiments.gates.answers.gate import AnswerLimits, judge_answers, table
from runtime_matrix.experiments.gates.outputs import GateReport, text_lines, write_outputs
from runtime_matrix.experiments.records.store import check_writable
from runtime_matrix.experiments.reports.text import clean


def main(words: Sequence[str]) -> int:
    """Judge the answers; return the exit code of the module's docstring."""
    options = parser().parse_args(["--help"] if {"-h", "--help"} & {*words} else words)
    return speaking(lambda: _gate(options, words))


def _gate(options: argparse.Namespace, words: Sequence[str]) -> int:
    if options.margin is None:
        raise UserError("--answers needs a margin, the loss that is accepted: --margin 1pt")
    if options.output is not None:
        check_writable(options.output)
    limits = AnswerLimits(
        margin=options.margin,
        each_task=options.each_task,
        is_sequential=options.sequential,
        alpha=options.alpha,
        metric=options.metric,
        tasks=tuple(options.tasks.split(",")) if options.tasks else (),
    )
    candidate, reference = options.answers
    judgement = judge_answers(candidate, reference, limits)
    print("\n".join(judgement.plan))
    if options.plan:
        return 0
    report = GateReport(
        "answers",
        limits.plain(),
        command_line("gate", words),
        judgement.verdict,
        judgement.findings,
        details={"candidate": str(candidate), "reference": str(reference), "tasks": table(judgement.tasks)},
    )
    lines = [*text_lines(report), *table(judgement.tasks), *(f"  not judged: {line}" for line in judgement.left_out)]
    print(clean("\n".join(lines)))
    if options.output is not None:
        write_outputs(report, options.output)
        print(f"files for CI systems: {options.output}")
    return EXIT[judgement.verdict]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    flags = argparse.ArgumentParser(
        command_line("gate"),
        description=as_typed(__doc__ or ""),
        epilog="formats: " + "; ".join(f"{known.name}: {known.summary}" for known in formats()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    flags.add_argument(
        "--answers", nargs=2, type=Path, required=True, metavar=("NEW", "OLD"), help="the answers and the reference's"
    )
    flags.add_argument(
        "--margin", type=margin, metavar="LOSS", help="the accepted loss: 1pt, 0.01, or a number in the metric's unit"
    )
    flags.add_argument("--metric", help="metric of the items: acc_norm, 'exact_match,strict-match', plus (the first)")
    flags.add_argument("--tasks", metavar="T,T,…", help="judge these tasks (all)")
    flags.add_argument("--each-task", action="store_true", help="each task must meet the margin, not only all together")
    flags.add_argument(
        "--sequential", action="store_true", help="bounds that hold however often the gate runs while items are added"
    )
    flags.add_argument("--alpha", type=share, default=0.05, help="probability of a wrong verdict (%(default)g)")
    flags.add_argument("--plan", action="store_true", help="only say what so many items can show")
    flags.add_argument("--output", type=Path, metavar="DIR", help="write files for CI systems there")
    return flags
