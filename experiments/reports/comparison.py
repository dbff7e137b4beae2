"""The comparison of two cells as plain lines: speed, memory, answers, divergence."""

from __future__ import annotations

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.records.comparison import BenchmarkDiff, Result
from runtime_matrix.experiments.records.ratios import Clock, memory_ratio, ratio
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.statistics.interval import Interval

_ERROR = 0.05  # family-wise error rate of the intervals of all speeds


def verdict_lines(result: Result, against: str, reason: str | None) -> list[str]:
    """Return the comparison with `against`, one line per figure, each with its interval.

    The intervals of all speeds hold together at 95 % (Bonferroni). `reason`: why no speed was compared, if known.
    """
    (row,) = rows([result])
    record, diff = result.record, result.diff
    launches = result.speed.launches if result.speed and row["speedup_launches"] else []
    speeds = [(phase, Clock.WALL) for phase in ("decode", "prefill", "request", "throughput")]
    if row["cpu_speedup_ratio"] is not None:
        speeds += [("decode", Clock.CPU), ("prefill", Clock.CPU)]
    speeds = [(phase, clock) for phase, clock in speeds if ratio(launches, phase, clock)]
    lines = [f"{record.runtime.name} against {against}, {record.model.name} model, {len(launches)} launches:"]
    if reason or row.speedup_reason:
        lines.append(f"  speed      not compared: {reason or row.speedup_reason}")
    for phase, clock in speeds:
        speedup = ratio(launches, phase, clock, 1 - _ERROR / len(speeds))
        assert speedup is not None
        clock_text = f"{clock.phrase} at {row['speedup_threads']} threads" if clock is Clock.WALL else clock.phrase
        lines.append(f"  {phase:10} {_than(speedup, 'faster', 'slower')}, {clock_text}")
    if launches and row.speed_note:
        lines.append(f"  {'':10} {row.speed_note}")
    memory = memory_ratio(launches)
    if memory:
        lines.append(f"  memory     {_than(memory, 'larger', 'smaller')}, peak without imports")
    diff_reason = diff.reason if diff is not None else result.diff_problem
    if diff_reason:
        lines.append(f"  answers    not compared: {diff_reason}")
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
        f"  {'divergence':16} {figures['kl_mean']:.2e} nats per token (99 %: {figures['kl_p99']:.1e}, "
        f"most {figures['kl_max']:.1e}), "
        f"same top token {100 * figures['same_top_ratio']:.2f} % of {figures['tokens']:,}"
    ]


def _signed(difference: Interval) -> str:
    return f"{difference.estimate:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
