"""What is read from a driven load: samples and figures, with a service level objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.statistics.shares import wilson_interval
from runtime_matrix.experiments.traffic.driver import Driven, Served
from runtime_matrix.runtimes.requests import Failed

Samples = dict[str, list[float]]  # seconds
Figures = dict[str, float | str | None]


@dataclass(frozen=True)
class Objective:
    """Limits on one request, in seconds; None: no limit."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    def is_met(self, served: Served) -> bool:
        """Return whether the request was answered within the limits."""
        if not served.is_complete:
            return False
        pairs = [(served.ttft_s, self.ttft_s), (served.tpot_s or 0.0, self.tpot_s), (served.e2e_s, self.e2e_s)]
        return all(limit is None or value <= limit for value, limit in pairs)


def samples(driven: Driven) -> Samples:
    """Return the times of complete requests, and the lateness of all starts."""
    complete = [served for served in driven.requests if served.is_complete]
    starts = [served for served in driven.requests if served.started_s is not None]
    return {
        "ttft_s": [served.ttft_s for served in complete],
        "tpot_s": [value for served in complete if (value := served.tpot_s) is not None],
        "itl_s": [gap for served in complete for gap in served.itl_s],
        "e2e_s": [served.e2e_s for served in complete],
        "lateness_s": [max(0.0, (served.started_s or 0.0) - served.planned_s) for served in starts],
    }


def figures(driven: Driven, objective: Objective) -> Figures:
    """Return counts, rates per second, and the share of requests that met the objective with its 95 % interval."""
    requests, duration_s = driven.requests, driven.duration_s
    complete = [served for served in requests if served.is_complete]
    reasons = [_reason(served) for served in requests if not served.is_complete]
    cancelled = sum(isinstance(served.result, Failed) and served.result.is_cancelled for served in requests)
    met = sum(objective.is_met(served) for served in requests)
    interval = wilson_interval(met, len(requests))
    new_tokens = sum(len(served.tokens_s) for served in complete)
    return {
        "requests": len(requests),
        "completed_requests": len(complete),
        "failed_requests": len(reasons) - cancelled,
        "cancelled_requests": cancelled,
        "short_requests": sum(len(served.tokens_s) < served.new_tokens for served in complete),
        "error_ratio": len(reasons) / len(requests),
        "first_failure": reasons[0] if reasons else None,
        "duration_s": duration_s,
        "offered_requests_per_s": _offered(requests),
        "requests_per_s": _rate(len(complete), duration_s),
        "tokens_per_s": _rate(new_tokens, duration_s),
        "prompt_tokens": sum(served.prompt_tokens for served in complete),
        "new_tokens": new_tokens,
        "server_prompt_tokens": _reported([served.usage.prompt_tokens for served in complete]),
        "server_new_tokens": _reported([served.usage.new_tokens for served in complete]),
        "met_requests": met,
        "goodput_requests_per_s": _rate(met, duration_s),
        "objective_ratio": met / len(requests),
        "objective_ratio_low": interval.low,
        "objective_ratio_high": interval.high,
        "most_in_flight": driven.most_in_flight,
        "cached_prompt_ratio": cached_ratio(complete),
    }


def cached_ratio(requests: Sequence[Served]) -> float | None:
    """Return the share of prompt tokens that the engine took from its cache; None if it does not tell."""
    cached = _reported([served.usage.cached_tokens for served in requests])
    return None if cached is None else cached / sum(served.prompt_tokens for served in requests)


def _reported(counts: Sequence[int | None]) -> int | None:
    """Return the sum of what the engine reports of each request; None unless it does of all."""
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _reason(served: Served) -> str:
    return served.result.reason if isinstance(served.result, Failed) else "a text of which no token was seen to arrive"


def _offered(requests: Sequence[Served]) -> float | None:
    """Return the rate at which requests were planned, from the first to the last of them."""
    return _rate(len(requests) - 1, requests[-1].planned_s - requests[0].planned_s)


def _rate(count: int, duration_s: float) -> float | None:
    return count / duration_s if duration_s > 0 else None
