"""Compare two runtimes: faster or slower, smaller or larger, the same answers or not, each with its interval.

  python -m experiments.compare runtime=onnxruntime against=eager
  python -m experiments.compare runtime=compile against=eager model=local model.path=DIR comparison.launches=10
  python -m experiments.compare runtime=eager against=eager      what this machine cannot tell apart

Both are measured alone for memory and answers, then together for speed: alive at once, one computing at a time, in as
many launches of fresh processes as it takes until the interval is narrower than comparison.width (at most
comparison.most_launches). All of Hydra's overrides of `python -m experiments.run` are taken; `against` names the
runtime to compare with (default: eager).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtime_matrix.experiments.cli.command import run_command
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import recorded_command

if TYPE_CHECKING:
    from runtime_matrix.experiments.records.schema import BenchmarkDiff, Launch, Record, Result
    from runtime_matrix.experiments.statistics.interval import Interval

_ERROR = 0.05  # that any of the speeds' intervals misses


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(argv, __doc__, _compare)


def _compare(words: Sequence[str]) -> int:
    from runtime_matrix.experiments.cells.overrides import cells, own_words

    own, given = own_words(words, {"against": "eager"})
    command = recorded_command("compare", words)
    reference, candidates = cells(given, str(own["against"]), command, ["comparison.launches=null"])
    if len(candidates) > 1:
        raise UserError("two runtimes are compared, not a sweep: runtime=NAME against=NAME")
    candidate = candidates[0]
    from runtime_matrix.experiments.execution.progress import Progress
    from runtime_matrix.experiments.records.ratios import Clock, ratio
    from runtime_matrix.experiments.records.store import attach
    from runtime_matrix.experiments.sweeps.after_sweep import compare_answers
    from runtime_matrix.experiments.sweeps.sweep import measure_cells
    from runtime_matrix.experiments.timing.interleave import compare_speed
    from runtime_matrix.experiments.timing.runner import Runner

    results = Path(candidate.config.results_dir)
    with Progress(2, candidate.config.progress) as progress:
        first, second = measure_cells([reference, candidate], progress)
        failed = [record for record in (first, second) if record.status != "ok"]
        if failed:
            for record in failed:
                print(f"{record.runtime.name}: {record.status}: {record.reason}")
            return 3 if all(record.status == "unsupported" for record in failed) else 1
        compare_answers(second, first, results)

        def on_launch(done: int, launches: Sequence[Launch]) -> None:
            speedup = ratio(launches, "decode", Clock.WALL)
            shown = f": decode {speedup.estimate:.3f}× [{speedup.low:.3f}, {speedup.high:.3f}]" if speedup else ""
            progress.note(f"launch {done}{shown}")

        homes = [results / record.record_id for record in (first, second)]
        progress.note("speed: both take turns")
        reasons = compare_speed(
            Runner(reference, homes[0]),
            [Runner(candidate, homes[1])],
            candidate.config.comparison,
            Clock.WALL,
            on_launch,
            tick=progress.tick,
        )
    (result,) = attach([second], results)
    for line in verdict_lines(result, first.runtime.name, reasons[homes[1]]):
        print(line)
    print(f"records: {homes[0]} and {homes[1]}")
    return 1 if reasons[homes[1]] else 0


def verdict_lines(result: Result, against: str, reason: str | None) -> list[str]:
    """Say in plain lines what was found; a line ends with the interval that it rests on.

    The intervals of all speeds hold together at 95 %.
    """
    from runtime_matrix.experiments.analysis.matrix import rows
    from runtime_matrix.experiments.records.ratios import Clock, memory_ratio, ratio

    (row,) = rows([result])
    record, diff = result.record, result.diff
    launches = result.speed.launches if result.speed and row["speedup_launches"] else []
    wanted = [(phase, Clock.WALL) for phase in ("decode", "prefill", "request", "throughput")]
    if row["cpu_speedup_ratio"] is not None:
        wanted += [("decode", Clock.CPU), ("prefill", Clock.CPU)]
    wanted = [(phase, clock) for phase, clock in wanted if ratio(launches, phase, clock)]
    lines = [f"{record.runtime.name} against {against}, {record.model.name} model, {len(launches)} launches:"]
    if reason or row.speedup_reason:
        lines.append(f"  speed      not compared: {reason or row.speedup_reason}")
    for phase, clock in wanted:
        speedup = ratio(launches, phase, clock, 1 - _ERROR / len(wanted))
        assert speedup is not None
        said = f"{clock.said} at {row['speedup_threads']} threads" if clock is Clock.WALL else clock.said
        lines.append(f"  {phase:10} {_than(speedup, 'faster', 'slower')}, {said}")
    if launches and row.speed_note:
        lines.append(f"  {'':10} {row.speed_note}")
    memory = memory_ratio(launches)
    if memory:
        lines.append(f"  memory     {_than(memory, 'larger', 'smaller')}, peak apart from imports")
    if diff is not None and diff.reason:
        lines.append(f"  answers    not compared: {diff.reason}")
    for name, benchmark in diff.benchmarks.items() if diff is not None else ():
        lines += _answer_lines(name, benchmark)
    return lines + _divergence_lines(record)


def _than(ratio: Interval, more: str, less: str) -> str:
    bounds = f"[{ratio.low:.3f}, {ratio.high:.3f}]"
    if ratio.low > 1:
        return f"{ratio.estimate:.3f}× {more} {bounds}"
    if ratio.high < 1:
        return f"{1 / ratio.estimate:.3f}× {less} [{1 / ratio.high:.3f}, {1 / ratio.low:.3f}]"
    widest = max(ratio.high - 1, 1 / ratio.low - 1)
    return f"no difference larger than {100 * widest:.1f} % {bounds}"


def _answer_lines(name: str, diff: BenchmarkDiff) -> list[str]:
    lines = []
    if diff.flips and diff.score_difference:
        p_value = diff.p_value if diff.p_value_holm is None else diff.p_value_holm
        lines.append(
            f"  {name:16} {100 * diff.flips.estimate:.1f} % of {diff.items} answers flip "
            f"(at most {100 * diff.flips.high:.1f} %), score {_signed(diff.score_difference)}, p = {p_value:.2g}"
        )
    elif diff.score_difference:
        lines.append(f"  {name:16} score {_signed(diff.score_difference)} over {diff.items} items")
    elif diff.perplexity_ratio:
        ratio = diff.perplexity_ratio
        lines.append(f"  {name:16} ratio {ratio.estimate:.6f} [{ratio.low:.6f}, {ratio.high:.6f}]")
    if diff.same_texts:
        share = f"{100 * diff.same_texts.estimate:.1f} % of the texts are the same"
        lines.append(f"  {'':16} {share} (at least {100 * diff.same_texts.low:.1f} %)")
    if diff.suspicious_items:
        first = ", ".join(map(str, diff.suspicious_items[:5]))
        lines.append(f"  {'':16} changed beyond rounding, probably a bug: {first}")
    return lines


def _divergence_lines(record: Record) -> list[str]:
    entry = record.entries().get("divergence")
    if entry is None:
        return []
    figures = entry.figures
    return [
        f"  {'divergence':16} {figures['kl_mean']:.2e} nats a token (99 %: {figures['kl_p99']:.1e}, "
        f"most {figures['kl_max']:.1e}), "
        f"same top token {100 * figures['same_top_ratio']:.2f} % of {figures['tokens']:,}"
    ]


def _signed(difference: Interval) -> str:
    return f"{difference.estimate:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


if __name__ == "__main__":
    sys.exit(main())
