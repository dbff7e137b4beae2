"""Checks that the timed work of a comparison's launches is the requested work; `audit.py` has their verdicts.

Three checks: the timed tokens, no computation while the clock is stopped, and no speed-up of repeated prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.code import declared_texts
from runtime_matrix.experiments.records.comparison import Launch, Repeated, Speed, TimedTokens, TokenRule
from runtime_matrix.experiments.records.schema import Entry, Load, Record, Replay

# Near ties of two tokens, in nats, that float32 rounding can swap; the logits of our engines differ by less than 2e-5.
_ROUNDING_NATS = 1e-3
_LEVEL = 0.999  # confidence level of the test of two shares
_BETWEEN_RATIO = 0.02  # share of the rounds' own CPU time
_BETWEEN_ROUND_S = 5e-4  # per round: noise of the clocks
# Time of a repeated prompt over that of the same prompt when it was new. Beside other work, honest runtimes reach 0.7.
_REMEMBERED_RATIO, _REMEMBERED_LAUNCHES = 0.5, 2
_REMEMBERED_PREFILL_RATIO = 0.5  # a prefill is short, and its time varies more
_REST_LAUNCH_S, _REST_RATIO = 0.01, 0.02  # CPU time per launch, and per wall time, after the last round


def is_exact(runtime: JsonObject, reference: JsonObject) -> bool:
    """Return whether two configured runtimes compute the same: the same weights, in float32 throughout."""
    if any(_rounds_within(configured) for configured in (runtime, reference)):
        return False
    has_same_weights = bool(runtime.get("weights") == reference.get("weights"))
    return has_same_weights and {runtime.get("dtype"), reference.get("dtype")} == {"float32"}


def _rounds_within(runtime: JsonObject) -> bool:
    """Return whether an option of the engine rounds what it computes further than the dtype does."""
    engine = runtime.get("engine") or {}
    names = declared_texts(engine["target"], "rounding_options") if "target" in engine else ()
    return any(engine.get(name) not in (None, False, "float32") for name in names)


def runs_the_references_weights(record: Record) -> bool:
    """Return whether a cell computes with the values that its reference's outputs were computed with.

    The reference may run another model, and engines that read a GGUF file themselves may round activations.
    """
    has_other_model = (record.config.get("model") or {}).get("reference") is not None
    return record.held().form != "gguf" and not has_other_model


def unchecked(speed: Speed, agreement: Entry | None, load: Load | None) -> str | None:
    """Return why the timed tokens of a cell are unchecked; None if they are checked.

    Those of engines that take whole requests are: the reference has scored them, and that is all that can be done.
    """
    takes_whole_requests = load is not None and load.takes_whole_requests
    if speed.token_rule == "share" and not takes_whole_requests and not _figure(agreement, "continuation_tokens"):
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
    return wrong_tokens([counts], "exact" if exact else "share", agreement)


def _figure(agreement: Entry | None, name: str) -> float | None:
    return None if agreement is None else agreement.figure(name)


def wrong_tokens(counts: Sequence[TimedTokens], rule: TokenRule, agreement: Entry | None) -> str | None:
    """Return in what the timed tokens differ from the reference's; None if they do not, or cannot be judged."""
    tokens, missing = sum(count.tokens for count in counts), sum(count.missing for count in counts)
    forced, forced_top = sum(count.forced for count in counts), sum(count.forced_top for count in counts)
    gap = max(count.max_gap for count in counts)
    if missing:
        return f"{missing} of {tokens + missing} timed tokens missing"
    if rule == "exact":
        if gap <= _ROUNDING_NATS:
            return None
        return (
            f"{forced - forced_top:,} of {tokens:,} timed tokens are not the reference's, whose own are up to "
            f"{gap:.3g} nats likelier"
        )
    checked, top = _figure(agreement, "continuation_tokens"), _figure(agreement, "continuation_same_top")
    if not checked or top is None or not forced:
        return None
    if _is_share_lower(forced_top, forced, int(top), int(checked)):
        return (
            f"{100 * forced_top / forced:.1f} % of {forced:,} timed tokens are the "
            f"reference's choice, {100 * top / checked:.1f} % in the agreement check"
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


@dataclass(frozen=True)
class LeftRunning:
    """CPU time while the clock was stopped: between rounds and after the last one."""

    problem: str | None
    text: str
    figures: dict[str, float]


def left_running(launches: Sequence[Launch]) -> LeftRunning:
    """Return what the candidate computed while the clock was stopped."""
    sides = [block.candidate for launch in launches for block in launch.blocks().values()]
    rounds = sum(len(side.decode.wall_s) for side in sides)
    between, own = sum(side.between_cpu_s for side in sides), sum(side.rounds_cpu_s for side in sides)
    figures = {"between_cpu_s": between, "rounds_cpu_s": own}
    problem = None
    if between > _BETWEEN_RATIO * own and between > _BETWEEN_ROUND_S * rounds:
        problem = (
            f"computed between its rounds for {100 * between / own if own else math.inf:.0f} % of their CPU time "
            f"({between:.2f} s over {rounds} rounds)"
        )
    text = f"{1000 * between:.1f} ms of CPU time between {rounds} rounds"
    rests = [launch.audit.rest for launch in launches if launch.audit is not None]
    if not rests:
        return LeftRunning(problem, f"{text}; after the last round not recorded: the record is older", figures)
    cpu_s, wall_s = sum(rest.cpu_s for rest in rests), sum(rest.wall_s for rest in rests)
    figures |= {"rest_cpu_s": cpu_s, "rest_wall_s": wall_s}
    if problem is None and cpu_s > _REST_LAUNCH_S * len(rests) and cpu_s > _REST_RATIO * wall_s:
        problem = f"computed for {cpu_s:.2f} s within {wall_s:.1f} s after its last rounds"
    return LeftRunning(problem, f"{text}, {1000 * cpu_s:.1f} ms in {wall_s:.1f} s after the last", figures)


@dataclass(frozen=True)
class Remembered:
    """Times of repeated prompts over those of new ones, the largest ratio of any launch."""

    launches: int
    ratio: float  # of whole rounds
    prefill_ratio: float | None  # None in earlier records
    fewest_launches: int = _REMEMBERED_LAUNCHES

    @property
    def problem(self) -> str | None:
        """Return what is faster for repeated prompts; None if nothing is."""
        if self.ratio <= _REMEMBERED_RATIO:
            return f"a repeated prompt takes at most {self.ratio:.2f} of the time of a new one"
        if self.prefill_ratio is not None and self.prefill_ratio <= _REMEMBERED_PREFILL_RATIO:
            return f"the prefill of a repeated prompt takes at most {self.prefill_ratio:.2f} of the time of a new one"
        return None

    def figures(self) -> dict[str, float]:
        """Return the ratios."""
        prefill = {} if self.prefill_ratio is None else {"prefill_ratio": self.prefill_ratio}
        return {"ratio": self.ratio, **prefill}


def remembered(repeated: Sequence[Repeated]) -> Remembered:
    """Return the ratios of launches with repeated prompts. ValueError without any.

    A round and its repetition are seconds apart, so that a passing load can slow one of them; it hardly slows the first
    of every pair. Prefills are compared with those next to them.
    """
    ratios = [
        max(again / fresh for again, fresh in zip(times.again_s, times.fresh_s, strict=True)) for times in repeated
    ]
    prefills = [sum(times.again_prefill_s) / sum(times.new_prefill_s) for times in repeated if times.new_prefill_s]
    return Remembered(len(ratios), max(ratios), max(prefills, default=None))
