"""Is the work that was timed the work that was asked for? Verdicts on the launches of a comparison.

Three things are checked: the timed tokens, that nothing was computed between the rounds, and that a prompt that came
before takes as long as a new one (as MLPerf's audit tests TEST01 and TEST04 do).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import special

WRONG_OUTPUT, INVALID_TIMING = "wrong output", "invalid timing"
# By how many nats float32 arithmetic in another order may make another token the likeliest: our engines' logits differ
# by less than 2e-5.
_ROUNDING_NATS = 1e-3
_LEVEL = 0.999  # of the two shares
_BETWEEN_RATIO = 0.02  # of the rounds' own CPU time
_BETWEEN_ROUND_S = 5e-4  # what is lost in the noise of the clocks
# Of a round whose prompt came before, over the same round when it was new: honest runtimes lie within a few percent.
_REMEMBERED_RATIO, _REMEMBERED_LAUNCHES = 0.7, 2
BLOCKS = ("own", "long", "batched", "one_thread")


def is_exact(runtime: Mapping[str, Any], reference: Mapping[str, Any]) -> bool:
    """Say whether two configured runtimes compute the same function up to rounding: the same weights, in float32."""
    return runtime["weights"] == reference["weights"] and {runtime["dtype"], reference["dtype"]} == {"float32"}


@dataclass(frozen=True)
class Problem:
    """`status` stands in the row; `is_final`: more launches cannot mend it."""

    status: str
    reason: str
    is_final: bool = True


def problem(speed: Mapping[str, Any], agreement: Mapping[str, Any]) -> Problem | None:
    """Return what is wrong with the timed work of a cell, None where nothing is.

    `speed` is the content of its `speed.json`, `agreement` the figures of its agreement check.
    """
    launches = speed.get("launches", [])
    counts = [launch["tokens"] for launch in launches if launch.get("tokens")]
    wrong = _wrong_tokens(counts, speed["token_rule"], agreement) if counts else None
    return wrong or _between(launches) or _remembers(launches)


def unchecked(speed: Mapping[str, Any], agreement: Mapping[str, Any]) -> str | None:
    """Return why the timed tokens of a cell cannot be judged, None where they can."""
    if speed.get("token_rule") == "share" and not agreement.get("continuation_tokens"):
        return "its timed tokens are unchecked: set agreement.enabled=true"
    return None


def replay_problem(replay: Mapping[str, Any], exact: bool, agreement: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the tokens of the latency benchmark, which were forced through the reference."""
    tokens, top = replay["tokens"], replay["same_top_tokens"]
    counts = {"tokens": tokens, "missing": 0, "forced": tokens, "forced_top": top, "max_gap": replay["max_logprob_gap"]}
    wrong = _wrong_tokens([counts], "exact" if exact else "share", agreement)
    return wrong.reason if wrong else None


def _wrong_tokens(counts: Sequence[Mapping[str, Any]], rule: str, agreement: Mapping[str, Any]) -> Problem | None:
    total = {name: sum(one[name] for one in counts) for name in ("tokens", "missing", "forced", "forced_top")}
    gap = max(one["max_gap"] for one in counts)
    if total["missing"]:
        return Problem(WRONG_OUTPUT, f"{total['missing']} of {total['tokens'] + total['missing']} timed tokens missing")
    if rule == "exact":
        if gap <= _ROUNDING_NATS:
            return None
        wrong = total["forced"] - total["forced_top"]
        return Problem(
            WRONG_OUTPUT,
            f"{wrong:,} of {total['tokens']:,} timed tokens are not the reference's, which finds its own up to "
            f"{gap:.3g} nats likelier",
        )
    tokens, top = agreement.get("continuation_tokens"), agreement.get("continuation_same_top")
    if not tokens or top is None or not total["forced"]:
        return None
    if _is_share_lower(total["forced_top"], total["forced"], top, tokens):
        return Problem(
            WRONG_OUTPUT,
            f"{100 * total['forced_top'] / total['forced']:.1f} % of {total['forced']:,} timed tokens are the "
            f"reference's choice, {100 * top / tokens:.1f} % in the agreement check",
        )
    return None


def _is_share_lower(successes: int, n: int, others: int, m: int) -> bool:
    """Say whether the first of two binomial shares is lower (Fisher's exact test, one-sided, at 99.9 %)."""
    total = successes + others
    # P(X <= successes), X hypergeometric: of `total` successes among n + m, those that fell into the first sample.
    low = max(0, total - m)
    logs = [_log_choose(n, k) + _log_choose(m, total - k) for k in range(low, successes + 1)]
    if not logs:
        return False
    most = max(logs)
    log_p = most + math.log(sum(math.exp(value - most) for value in logs)) - _log_choose(n + m, total)
    return log_p < math.log(1 - _LEVEL)


def _log_choose(n: int, k: int) -> float:
    return float(special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1))


def _between(launches: Sequence[Mapping[str, Any]]) -> Problem | None:
    sides = [launch[name]["candidate"] for launch in launches for name in BLOCKS if launch.get(name) is not None]
    rounds = sum(len(side["decode"]["wall_s"]) for side in sides)
    between, own = (sum(side[key] for side in sides) for key in ("between_cpu_s", "rounds_cpu_s"))
    if between <= _BETWEEN_RATIO * own or between <= _BETWEEN_ROUND_S * rounds:
        return None
    return Problem(
        INVALID_TIMING,
        f"computed between its rounds for {100 * between / own if own else math.inf:.0f} % of their CPU time "
        f"({between:.2f} s over {rounds} rounds)",
    )


def _remembers(launches: Sequence[Mapping[str, Any]]) -> Problem | None:
    repeated = [launch["repeated"] for launch in launches if launch.get("repeated")]
    ratios = [sum(times["again_s"]) / sum(times["fresh_s"]) for times in repeated]
    if len(ratios) < _REMEMBERED_LAUNCHES or max(ratios) > _REMEMBERED_RATIO:
        return None
    return Problem(INVALID_TIMING, f"a prompt that came before takes {max(ratios):.2f} of a new one's time at most")
