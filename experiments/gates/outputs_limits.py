"""Limits on what was computed: where it was timed, replayed, and before any timing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runtime_matrix.experiments.gates.findings import Finding, Measured
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.measurement.sequential import Verdict
from runtime_matrix.experiments.measurement.shares import upper_bound
from runtime_matrix.experiments.records.timed_work import is_exact, problem, replay_problem, unchecked

_LOGIT_ROUNDING = 1e-2  # a difference of logits that float32 arithmetic explains; our engines' stay below 2e-5


def judge_outputs(one: Measured, gate: GateConfig) -> list[Finding]:
    """Judge whether what was computed is what the reference computes: where it was timed, and before any timing."""
    checks = {"timed_work": _timed_work, "replay": _replay, "agreement": _agreement}
    return [checks[name](one, gate) for name in gate.reference.outputs]


def _timed_work(one: Measured, gate: GateConfig) -> Finding:
    speed, figures = one.record.get("speed") or {}, _agreement_figures(one)
    blank = Finding(one.label, "reference.outputs.timed_work", "inconclusive", "")
    launches = speed.get("launches", [])
    if not launches:
        why = speed.get("reason") or "no launches: a limit on speed makes them"
        return replace(blank, figures=f"the timed work was not checked: {why}")
    wrong, left_open = problem(speed, figures), unchecked(speed, figures)
    if wrong is not None:
        return replace(blank, verdict="fail", figures=f"{wrong.status}: {wrong.reason}", n=len(launches))
    if left_open is not None:
        return replace(blank, figures=left_open)
    counts = [launch["tokens"] for launch in launches]
    tokens, rows, same = (sum(count[name] for count in counts) for name in ("tokens", "rows", "same_rows"))
    said = (
        f"{tokens:,} timed tokens checked, {same:,} of {rows:,} texts are {one.against}'s, nothing between the rounds"
    )
    return replace(blank, verdict="pass", figures=said, n=len(launches))


def _replay(one: Measured, gate: GateConfig) -> Finding:
    blank, replayed = Finding(one.label, "reference.outputs.replay", "inconclusive", ""), one.record.get("replay")
    if not replayed:
        return replace(blank, figures="nothing was replayed: it needs latency in benchmark=[…] and agreement.enabled")
    wrong = replay_problem(replayed, _computes_the_same(one), _agreement_figures(one))
    if wrong is not None:
        return replace(blank, verdict="fail", figures=f"replayed under {one.against}: {wrong}")
    said = f"{replayed['same_top_tokens']} of {replayed['tokens']} replayed tokens are {one.against}'s choice"
    return replace(blank, verdict="pass", figures=said)


def _agreement(one: Measured, gate: GateConfig) -> Finding:
    blank, figures = Finding(one.label, "reference.outputs.agreement", "inconclusive", ""), _agreement_figures(one)
    if not figures:
        return replace(blank, figures="agreement was not measured: set agreement.enabled=true")
    same, difference = figures["same_top_ratio"], figures["max_logit_difference"]
    said = f"{100 * same:.1f} % of the top tokens are {one.against}'s, logits differ by {difference:.2g} at most"
    if _computes_the_same(one):
        verdict: Verdict = "pass" if difference <= _LOGIT_ROUNDING else "fail"
        said += f", {_LOGIT_ROUNDING:g} explained by rounding" if verdict == "fail" else ""
        return replace(blank, verdict=verdict, figures=said)
    tokens, top = figures.get("continuation_tokens"), figures.get("continuation_same_top")
    if not tokens or top is None:
        return replace(blank, figures=said, advice="too few positions to judge by")
    share, least = top / tokens, gate.reference.same_top
    is_short = upper_bound(top, tokens, gate.level(1, False)) < least
    verdict = "pass" if share >= least else "fail" if is_short else "inconclusive"
    said += f"; {100 * share:.1f} % of {tokens} tokens of its texts, at least {100 * least:g} % wanted"
    return replace(blank, verdict=verdict, figures=said, n=tokens)


def _computes_the_same(one: Measured) -> bool:
    return is_exact(one.record["config"]["runtime"], one.reference_record["config"]["runtime"])


def _agreement_figures(one: Measured) -> Mapping[str, Any]:
    entries = [entry for entry in one.record["benchmarks"] if entry["benchmark"] == "agreement"]
    figures: Mapping[str, Any] = entries[0]["figures"] if entries and entries[0]["status"] == "ok" else {}
    return figures
