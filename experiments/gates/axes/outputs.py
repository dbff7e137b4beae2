"""What was computed is what the reference computes: where it was timed, replayed, and before any timing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from typing_extensions import override

from runtime_matrix.experiments.analysis.timed_work import is_exact, problem, replay_problem, unchecked
from runtime_matrix.experiments.config.validate import Rule
from runtime_matrix.experiments.gates.axis import Axis, Limits
from runtime_matrix.experiments.gates.findings import LimitResult, Measured
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.statistics.sequential import Verdict
from runtime_matrix.experiments.statistics.shares import upper_bound

_REPLAY = "replay"
_LOGIT_ROUNDING = 1e-2  # a difference of logits that float32 arithmetic explains; our engines' stay below 2e-5


class OutputLimits(Limits[tuple[str, ...]]):
    @override
    def judge(self, measured: Measured, limits: tuple[str, ...], gate: GateConfig, level: float) -> list[LimitResult]:
        return [_CHECKS[name](measured, gate) for name in limits]

    @override
    def benchmarks(self, limits: tuple[str, ...]) -> Collection[str]:
        return ["latency"] if _REPLAY in limits else []


def _timed_work(measured: Measured, gate: GateConfig) -> LimitResult:
    speed, agreement = measured.result.speed, _agreement_entry(measured)
    blank = LimitResult(measured.label, "reference.outputs.timed_work", "inconclusive", "")
    if speed is None or not speed.launches:
        why = (speed.reason if speed else None) or "no launches: a limit on speed makes them"
        return replace(blank, figures=f"the timed work was not checked: {why}")
    wrong, left_open = problem(speed, agreement), unchecked(speed, agreement)
    if wrong is not None:
        return replace(blank, verdict="fail", figures=f"{wrong.status}: {wrong.reason}", n=len(speed.launches))
    if left_open is not None:
        return replace(blank, figures=left_open)
    counts = [launch.tokens for launch in speed.launches if launch.tokens is not None]
    tokens, rows = sum(count.tokens for count in counts), sum(count.rows for count in counts)
    said = (
        f"{tokens:,} timed tokens checked, {sum(count.same_rows for count in counts):,} of {rows:,} texts are "
        f"{measured.against}'s, nothing between the rounds"
    )
    return replace(blank, verdict="pass", figures=said, n=len(speed.launches))


def _replay(measured: Measured, gate: GateConfig) -> LimitResult:
    blank, against = LimitResult(measured.label, "reference.outputs.replay", "inconclusive", ""), measured.against
    replay = measured.result.record.replay
    if replay is None:
        return replace(blank, figures="nothing was replayed: it needs latency in benchmark=[…] and agreement.enabled")
    wrong = replay_problem(replay, _computes_the_same(measured), _agreement_entry(measured))
    if wrong is not None:
        return replace(blank, verdict="fail", figures=f"replayed under {against}: {wrong}")
    said = f"{replay.same_top_tokens} of {replay.tokens} replayed tokens are {against}'s choice"
    return replace(blank, verdict="pass", figures=said)


def _agreement(measured: Measured, gate: GateConfig) -> LimitResult:
    blank = LimitResult(measured.label, "reference.outputs.agreement", "inconclusive", "")
    entry = _agreement_entry(measured)
    same, difference = (entry.figure("same_top_ratio"), entry.figure("max_logit_difference")) if entry else (None, None)
    if entry is None or same is None or difference is None:
        return replace(blank, figures="agreement was not measured: set agreement.enabled=true")
    said = f"{100 * same:.1f} % of the top tokens are {measured.against}'s, logits differ by {difference:.2g} at most"
    if _computes_the_same(measured):
        verdict: Verdict = "pass" if difference <= _LOGIT_ROUNDING else "fail"
        said += f", {_LOGIT_ROUNDING:g} explained by rounding" if verdict == "fail" else ""
        return replace(blank, verdict=verdict, figures=said)
    tokens, top = entry.figure("continuation_tokens"), entry.figure("continuation_same_top")
    if not tokens or top is None:
        return replace(blank, figures=said, advice="too few positions to judge by")
    tokens, top = int(tokens), int(top)
    share, least = top / tokens, gate[SAME_TOP]
    is_short = upper_bound(top, tokens, gate.level(1, False)) < least
    verdict = "pass" if share >= least else "fail" if is_short else "inconclusive"
    said += f"; {100 * share:.1f} % of {tokens} tokens of its texts, at least {100 * least:g} % wanted"
    return replace(blank, verdict=verdict, figures=said, n=tokens)


def _computes_the_same(measured: Measured) -> bool:
    return is_exact(measured.result.record.config["runtime"], measured.reference.record.config["runtime"])


def _agreement_entry(measured: Measured) -> Entry | None:
    entry = measured.result.record.agreement_figures()
    return entry if entry is not None and entry.status == "ok" else None


_CHECKS = {"timed_work": _timed_work, _REPLAY: _replay, "agreement": _agreement}
REFERENCE = OutputLimits(
    part="reference",
    key="outputs",
    kind=tuple[str, ...],
    default=tuple(_CHECKS),  # a speed is worth nothing where the outputs are wrong: to leave a check out is a choice
    rule=Rule(among=tuple(_CHECKS), may_be_empty=True),
    place=10,
)
# The share of the reference's top tokens that weights unlike its own must choose too.
SAME_TOP = Limits(
    part="reference", key="same_top", kind=float, default=0.75, rule=Rule(least=0, most=1), is_option=True
)
AXIS = Axis(limits=(REFERENCE, SAME_TOP), place=30)
