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
from typing import Any

from runtime_matrix.experiments.command import run_command
from runtime_matrix.experiments.errors import UserError
from runtime_matrix.experiments.program import recorded_command

_ERROR = 0.05  # that any of the speeds' intervals misses
_TEXTS = ("code", "extractive_qa", "summarization")


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(argv, __doc__, _compare)


def _compare(words: Sequence[str]) -> int:
    from runtime_matrix.experiments.pairing import cells, own_words

    own, given = own_words(words, {"against": "eager"})
    command = recorded_command("compare", words)
    reference, candidates = cells(given, str(own["against"]), command, ["comparison.launches=null"])
    if len(candidates) > 1:
        raise UserError("two runtimes are compared, not a sweep: runtime=NAME against=NAME")
    candidate = candidates[0]
    from runtime_matrix.experiments.comparison.after_sweep import compare_answers
    from runtime_matrix.experiments.comparison.speed import compare_speed
    from runtime_matrix.experiments.comparison.workers import Runner
    from runtime_matrix.experiments.progress import Progress
    from runtime_matrix.experiments.records.speed import Clock, ratio
    from runtime_matrix.experiments.records.store import attach
    from runtime_matrix.experiments.sweep import measure_cells

    results = Path(candidate.config.results_dir)
    with Progress(2, candidate.config.progress) as progress:
        first, second = measure_cells([reference, candidate], progress)
        failed = [record for record in (first, second) if record["status"] != "ok"]
        if failed:
            for record in failed:
                print(f"{record['runtime']['name']}: {record['status']}: {record['reason']}")
            return 3 if all(record["status"] == "unsupported" for record in failed) else 1
        compare_answers(second, first, results)

        def on_launch(done: int, launches: list[dict[str, Any]]) -> None:
            found = ratio(launches, "decode", Clock.WALL)
            shown = f": decode {found.estimate:.3f}× [{found.low:.3f}, {found.high:.3f}]" if found else ""
            progress.note(f"launch {done}{shown}")

        homes = [results / record["record_id"] for record in (first, second)]
        progress.note("speed: both take turns")
        reasons = compare_speed(
            Runner(reference, homes[0]),
            [Runner(candidate, homes[1])],
            candidate.config.comparison,
            Clock.WALL,
            on_launch,
            tick=progress.tick,
        )
    (record,) = attach([second], results)
    for line in verdict_lines(record, first["runtime"]["name"], reasons[homes[1]]):
        print(line)
    print(f"records: {homes[0]} and {homes[1]}")
    return 1 if reasons[homes[1]] else 0


def verdict_lines(record: dict[str, Any], against: str, reason: str | None) -> list[str]:
    """Say in plain lines what was found; a line ends with the interval that it rests on.

    The intervals of all speeds hold together at 95 %.
    """
    from runtime_matrix.experiments.records.matrix import rows
    from runtime_matrix.experiments.records.speed import Clock, memory_ratio, ratio

    (row,) = rows([record])
    launches = (record["speed"] or {}).get("launches", []) if row["speedup_launches"] else []
    wanted = [(phase, Clock.WALL) for phase in ("decode", "prefill", "request", "throughput")]
    if row["cpu_speedup_ratio"] is not None:
        wanted += [("decode", Clock.CPU), ("prefill", Clock.CPU)]
    wanted = [(phase, clock) for phase, clock in wanted if ratio(launches, phase, clock)]
    name, count = record["runtime"]["name"], len(launches)
    lines = [f"{name} against {against}, {record['model']['name']} model, {count} launches:"]
    if reason or row["speedup_reason"]:
        lines.append(f"  speed      not compared: {reason or row['speedup_reason']}")
    for phase, clock in wanted:
        found = ratio(launches, phase, clock, 1 - _ERROR / len(wanted))
        said = f"{clock.said} at {row['speedup_threads']} threads" if clock is Clock.WALL else clock.said
        lines.append(f"  {phase:10} {_than(found, 'faster', 'slower')}, {said}")
    if launches and row["speed_note"]:
        lines.append(f"  {'':10} {row['speed_note']}")
    memory = memory_ratio(launches)
    if memory:
        lines.append(f"  memory     {_than(memory, 'larger', 'smaller')}, peak apart from imports")
    answers = record["answers"] or {}
    if answers.get("reason"):
        lines.append(f"  answers    not compared: {answers['reason']}")
    return lines + _answer_lines(answers.get("benchmarks", {}), record)


def _than(found: Any, more: str, less: str) -> str:
    bounds = f"[{found.low:.3f}, {found.high:.3f}]"
    if found.low > 1:
        return f"{found.estimate:.3f}× {more} {bounds}"
    if found.high < 1:
        return f"{1 / found.estimate:.3f}× {less} [{1 / found.high:.3f}, {1 / found.low:.3f}]"
    widest = max(found.high - 1, 1 / found.low - 1)
    return f"no difference larger than {100 * widest:.1f} % {bounds}"


def _answer_lines(found: dict[str, Any], record: dict[str, Any]) -> list[str]:
    lines = []
    for name, figures in found.items():
        if figures.get("flips"):
            flips, difference = figures["flips"], figures["score_difference"]
            p_value = figures.get("p_value_holm", figures["p_value"])
            lines.append(
                f"  {name:16} {100 * flips['estimate']:.1f} % of {figures['items']} answers flip "
                f"(at most {100 * flips['high']:.1f} %), score {_signed(difference)}, p = {p_value:.2g}"
            )
        elif figures.get("score_difference"):
            lines.append(f"  {name:16} score {_signed(figures['score_difference'])} over {figures['items']} items")
        elif figures.get("perplexity_ratio"):
            one = figures["perplexity_ratio"]
            lines.append(f"  {name:16} ratio {one['estimate']:.6f} [{one['low']:.6f}, {one['high']:.6f}]")
        if name in _TEXTS and figures.get("same_texts"):
            same = figures["same_texts"]
            share = f"{100 * same['estimate']:.1f} % of the texts are the same"
            lines.append(f"  {'':16} {share} (at least {100 * same['low']:.1f} %)")
        if figures.get("suspicious_items"):
            lines.append(
                f"  {'':16} changed beyond rounding, probably a bug: {', '.join(figures['suspicious_items'][:5])}"
            )
    entry = next((e for e in record["benchmarks"] if e["benchmark"] == "divergence" and e["status"] == "ok"), None)
    if entry:
        one = entry["figures"]
        lines.append(
            f"  {'divergence':16} {one['kl_mean']:.2e} nats a token (99 %: {one['kl_p99']:.1e}, "
            f"most {one['kl_max']:.1e}), "
            f"same top token {100 * one['same_top_ratio']:.2f} % of {one['tokens']:,}"
        )
    return lines


def _signed(one: dict[str, float]) -> str:
    return f"{one['estimate']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]"


if __name__ == "__main__":
    sys.exit(main())
