"""Is the work that was timed the work that was asked for? Verdicts on the launches of a comparison.

Three things are checked: the timed tokens, that nothing was computed between the rounds, and that a prompt that came
before takes as long as a new one (as MLPerf's audit tests TEST01 and TEST04 do).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.comparison import Launch, Speed, TimedTokens, TokenRule
from runtime_matrix.experiments.records.schema import INVALID_TIMING, WRONG_OUTPUT, Entry, Replay, Status

# By how many nats float32 arithmetic in another order may make another token the likeliest: our engines' logits differ
# by less than 2e-5.
_ROUNDING_NATS = 1e-3
_LEVEL = 0.999  # of the two shares
_BETWEEN_RATIO = 0.02  # of the rounds' own CPU time
_BETWEEN_ROUND_S = 5e-4  # what is lost in the noise of the clocks
# Of a round whose prompt came before, over the same round when it was new: honest runtimes lie within a few percent.
_REMEMBERED_RATIO, _REMEMBERED_LAUNCHES = 0.7, 2


def is_exact(runtime: JsonObject, reference: JsonObject) -> bool:
    """Say whether two configured runtimes compute the same function up to rounding: the same weights, in float32."""
    return bool(runtime["weights"] == reference["weights"]) and {runtime["dtype"], reference["dtype"]} == {"float32"}


@dataclass(frozen=True)
class Problem:
    """`status` stands in the row; `is_final`: more launches cannot mend it."""

    status: Status
    reason: str
    is_final: bool = True


def problem(speed: Speed, agreement: Entry | None) -> Problem | None:
    """Return what is wrong with the timed work of a cell, None where nothing is; `agreement` is of its check."""
    counts = [launch.tokens for launch in speed.launches if launch.tokens is not None]
    wrong = _wrong_tokens(counts, speed.token_rule, agreement) if counts else None
    return wrong or _between(speed.launches) or _remembers(speed.launches)


def unchecked(speed: Speed, agreement: Entry | None) -> str | None:
    """Return why the timed tokens of a cell cannot be judged, None where they can."""
    if speed.token_rule == "share" and not _figure(agreement, "continuation_tokens"):
        return "its timed tokens are unchecked: set agreement.enabled=true"
    return None


def replay_problem(replay: Replay, exact: bool, agreement: Entry | None) -> str | None:
    """Return what is wrong with the tokens of the latency benchmark, which were forced through the reference."""
    counts = TimedTokens(
        tokens=replay.tokens,
        missing=0,
        forced=replay.tokens,
        forced_top=replay.same_top_tokens,
        max_gap=replay.max_logprob_gap,
    )
    wrong = _wrong_tokens([counts], "exact" if exact else "share", agreement)
    return wrong.reason if wrong else None


def _figure(agreement: Entry | None, name: str) -> float | None:
    return None if agreement is None else agreement.figure(name)


def _wrong_tokens(counts: Sequence[TimedTokens], rule: TokenRule, agreement: Entry | None) -> Problem | None:
    tokens, missing = sum(count.tokens for count in counts), sum(count.missing for count in counts)
    forced, forced_top = sum(count.forced for count in counts), sum(count.forced_top for count in counts)
    gap = max(count.max_gap for count in counts)
    if missing:
        return Problem(WRONG_OUTPUT, f"{missing} of {tokens + missing} timed tokens missing")
    if rule == "exact":
        if gap <= _ROUNDING_NATS:
            return None
        return Problem(
            WRONG_OUTPUT,
            f"{forced - forced_top:,} of {tokens:,} timed tokens are not the reference's, which finds its own up to "
            f"{gap:.3g} nats likelier",
        )
    checked, top = _figure(agreement, "continuation_tokens"), _figure(agreement, "continuation_same_top")
    if not checked or top is None or not forced:
        return None
    if _is_share_lower(forced_top, forced, int(top), int(checked)):
        return Problem(
            WRONG_OUTPUT,
            f"{100 * forced_top / forced:.1f} % of {forced:,} timed tokens are the "
            f"reference's choice, {100 * top / checked:.1f} % in the agreement check",
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


def _between(launches: Sequence[Launch]) -> Problem | None:
    sides = [block.candidate for launch in launches for block in launch.blocks().values()]
    rounds = sum(len(side.decode.wall_s) for side in sides)
    between, own = sum(side.between_cpu_s for side in sides), sum(side.rounds_cpu_s for side in sides)
    if between <= _BETWEEN_RATIO * own or between <= _BETWEEN_ROUND_S * rounds:
        return None
    return Problem(
        INVALID_TIMING,
        f"computed between its rounds for {100 * between / own if own else math.inf:.0f} % of their CPU time "
        f"({between:.2f} s over {rounds} rounds)",
    )


def _remembers(launches: Sequence[Launch]) -> Problem | None:
    repeated = [launch.repeated for launch in launches if launch.repeated is not None]
    ratios = [sum(times.again_s) / sum(times.fresh_s) for times in repeated]
    if len(ratios) < _REMEMBERED_LAUNCHES or max(ratios) > _REMEMBERED_RATIO:
        return None
    return Problem(INVALID_TIMING, f"a prompt that came before takes {max(ratios):.2f} of a new one's time at most")
