"""Checks that the timed work of a comparison's launches is the requested work.

Three checks: the timed tokens, no computation between the rounds, and no speed-up of repeated prompts (as in MLPerf's
audit tests TEST01 and TEST04).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.comparison import Launch, Speed, TimedTokens, TokenRule
from runtime_matrix.experiments.records.schema import INVALID_TIMING, WRONG_OUTPUT, Entry, Replay, Status

# Near ties of two tokens, in nats, that float32 rounding can swap; the logits of our engines differ by less than 2e-5.
_ROUNDING_NATS = 1e-3
_LEVEL = 0.999  # confidence level of the test of two shares
_BETWEEN_RATIO = 0.02  # share of the rounds' own CPU time
_BETWEEN_ROUND_S = 5e-4  # per round: noise of the clocks
# Time of a repeated prompt over that of the same prompt when it was new: honest runtimes are within a few percent of 1.
_REMEMBERED_RATIO, _REMEMBERED_LAUNCHES = 0.7, 2


def is_exact(runtime: JsonObject, reference: JsonObject) -> bool:
    """Return whether two configured runtimes compute the same up to rounding: the same weights, in float32."""
    return bool(runtime["weights"] == reference["weights"]) and {runtime["dtype"], reference["dtype"]} == {"float32"}


@dataclass(frozen=True)
class Problem:
    """A failed check; `status` and `reason` become the row's. `is_final`: more launches cannot change it."""

    status: Status
    reason: str
    is_final: bool = True


def problem(speed: Speed, agreement: Entry | None) -> Problem | None:
    """Return the problem of a cell's timed work, or None. `agreement`: the entry of its agreement check."""
    counts = [launch.tokens for launch in speed.launches if launch.tokens is not None]
    token_problem = _wrong_tokens(counts, speed.token_rule, agreement) if counts else None
    return token_problem or _between(speed.launches) or _remembers(speed.launches)


def unchecked(speed: Speed, agreement: Entry | None) -> str | None:
    """Return why the timed tokens of a cell cannot be judged, or None if they can."""
    if speed.token_rule == "share" and not _figure(agreement, "continuation_tokens"):
        return "its timed tokens are unchecked: set agreement.enabled=true"
    return None


def replay_problem(replay: Replay, exact: bool, agreement: Entry | None) -> str | None:
    """Return the problem of the latency benchmark's tokens, which were replayed under the reference, or None."""
    counts = TimedTokens(
        tokens=replay.tokens,
        missing=0,
        forced=replay.tokens,
        forced_top=replay.same_top_tokens,
        max_gap=replay.max_logprob_gap,
    )
    token_problem = _wrong_tokens([counts], "exact" if exact else "share", agreement)
    return token_problem.reason if token_problem else None


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
            f"{forced - forced_top:,} of {tokens:,} timed tokens are not the reference's, whose own are up to "
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
    """Return whether the first of two binomial shares is lower (Fisher's exact test, one-sided, at 99.9 %)."""
    total = successes + others
    # P(X <= successes), X hypergeometric: the share of `total` successes among n + m that is in the first sample.
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
    return Problem(INVALID_TIMING, f"a repeated prompt takes at most {max(ratios):.2f} of the time of a new one")
