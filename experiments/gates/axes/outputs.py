"""Outputs equal the reference's: in the timed rounds, in the replay, and in the agreement check before timing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from typing_extensions import override

from runtime_matrix.experiments.analysis.audit import audit, problem
from runtime_matrix.experiments.analysis.timed_work import (
    is_exact,
    replay_problem,
    runs_the_references_weights,
    unchecked,
)
from runtime_matrix.experiments.config.validate import Rule
from runtime_matrix.experiments.gates.axis import Axis, Limits
from runtime_matrix.experiments.gates.findings import LimitResult, Measured
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.statistics.sequential import Verdict
from runtime_matrix.experiments.statistics.shares import upper_bound

_REPLAY, _AGREEMENT = "replay", "agreement"
_LOGIT_ROUNDING = 1e-2  # largest logit difference by float32 rounding; that of our engines is below 2e-5


class OutputLimits(Limits[tuple[str, ...]]):
    """The names of the checks that are applied."""

    @override
    def judge(self, measured: Measured, limits: tuple[str, ...], gate: GateConfig, level: float) -> list[LimitResult]:
        names = [name for name in limits if name != _AGREEMENT or not _takes_whole_requests(measured)]
        return [_CHECKS[name](measured, gate) for name in names]

    @override
    def benchmarks(self, limits: tuple[str, ...]) -> Collection[str]:
        return ["latency"] if _REPLAY in limits else []


def _timed_work(measured: Measured, gate: GateConfig) -> LimitResult:
    speed, agreement = measured.result.speed, _agreement_entry(measured)
    blank = LimitResult(measured.label, "reference.outputs.timed_work", "inconclusive", "")
    if speed is None or not speed.launches:
        reason = (speed.reason if speed else None) or "no launches: they need a limit on speed"
        return replace(blank, figures=f"the timed work was not checked: {reason}")
    work_problem = problem(audit(measured.result.record, speed))
    unchecked_reason = unchecked(speed, agreement, measured.result.record.load)
    if work_problem is not None:
        return replace(
            blank, verdict="fail", figures=f"{work_problem.status}: {work_problem.reason}", n=len(speed.launches)
        )
    if unchecked_reason is not None:
        return replace(blank, figures=unchecked_reason)
    counts = [launch.tokens for launch in speed.launches if launch.tokens is not None]
    tokens, rows = sum(count.tokens for count in counts), sum(count.rows for count in counts)
    figures = (
        f"{tokens:,} timed tokens checked, {sum(count.same_rows for count in counts):,} of {rows:,} texts equal "
        f"{measured.against}'s, no computation between the rounds"
    )
    if not _takes_whole_requests(measured):
        return replace(blank, verdict="pass", figures=figures, n=len(speed.launches))
    forced, top = sum(count.forced for count in counts), sum(count.forced_top for count in counts)
    figures += f"; {top:,} of {forced:,} scored ones are its choice; without logits there is no agreement check"
    verdict: Verdict = "pass"
    if speed.token_rule == "share":
        verdict = _same_top(tokens - forced + top, tokens, gate)
        figures += f", and at least {100 * gate[SAME_TOP]:g} % of the tokens must be its choice"
    return replace(blank, verdict=verdict, figures=figures, n=len(speed.launches))


def _replay(measured: Measured, gate: GateConfig) -> LimitResult:
    blank, against = LimitResult(measured.label, "reference.outputs.replay", "inconclusive", ""), measured.against
    replay = measured.result.record.replay
    if replay is None:
        return replace(
            blank, figures="no tokens were replayed: add latency to benchmark=[…] and set agreement.enabled=true"
        )
    token_problem = replay_problem(replay, _computes_the_same(measured), _agreement_entry(measured))
    if token_problem is not None:
        return replace(blank, verdict="fail", figures=f"replayed under {against}: {token_problem}")
    figures = f"{replay.same_top_tokens} of {replay.tokens} replayed tokens are {against}'s choice"
    return replace(blank, verdict="pass", figures=figures)


def _agreement(measured: Measured, gate: GateConfig) -> LimitResult:
    blank = LimitResult(measured.label, "reference.outputs.agreement", "inconclusive", "")
    entry = _agreement_entry(measured)
    same, difference = (entry.figure("same_top_ratio"), entry.figure("max_logit_difference")) if entry else (None, None)
    if entry is None or same is None or difference is None:
        return replace(blank, figures="agreement was not measured: set agreement.enabled=true")
    figures = (
        f"{100 * same:.1f} % of the top tokens are {measured.against}'s, logits differ by {difference:.2g} at most"
    )
    if _computes_the_same(measured):
        verdict: Verdict = "pass" if difference <= _LOGIT_ROUNDING else "fail"
        figures += f", {_LOGIT_ROUNDING:g} by rounding" if verdict == "fail" else ""
        return replace(blank, verdict=verdict, figures=figures)
    tokens, top = entry.figure("continuation_tokens"), entry.figure("continuation_same_top")
    if not tokens or top is None:
        return replace(blank, figures=figures, advice="too few positions for a verdict")
    tokens, top = int(tokens), int(top)
    figures += f"; {100 * top / tokens:.1f} % of {tokens} tokens of its texts, "
    figures += f"at least {100 * gate[SAME_TOP]:g} % required"
    return replace(blank, verdict=_same_top(top, tokens, gate), figures=figures, n=tokens)


def _same_top(top: int, tokens: int, gate: GateConfig) -> Verdict:
    """Judge the share of tokens that are the reference's choice, of weights that differ from the reference's."""
    if top >= gate[SAME_TOP] * tokens:
        return "pass"
    return "fail" if upper_bound(top, tokens, gate.level(1, False)) < gate[SAME_TOP] else "inconclusive"


def _takes_whole_requests(measured: Measured) -> bool:
    load = measured.result.record.load
    return load is not None and load.takes_whole_requests


def _computes_the_same(measured: Measured) -> bool:
    record, reference = measured.result.record, measured.reference.record
    return is_exact(record.config["runtime"], reference.config["runtime"]) and runs_the_references_weights(record)


def _agreement_entry(measured: Measured) -> Entry | None:
    entry = measured.result.record.agreement_figures()
    return entry if entry is not None and entry.status == "ok" else None


_CHECKS = {"timed_work": _timed_work, _REPLAY: _replay, _AGREEMENT: _agreement}
REFERENCE = OutputLimits(
    part="reference",
    key="outputs",
    kind=tuple[str, ...],
    default=tuple(_CHECKS),  # speed with wrong outputs is worthless: checks are opt-out
    rule=Rule(among=tuple(_CHECKS), may_be_empty=True),
    place=10,
)
# The required share of equal top tokens for weights that differ from the reference's.
SAME_TOP = Limits(
    part="reference", key="same_top", kind=float, default=0.75, rule=Rule(least=0, most=1), is_option=True
)
AXIS = Axis(limits=(REFERENCE, SAME_TOP), place=30)
