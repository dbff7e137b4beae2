"""What is read from a driven load: samples and figures, with a service level objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.statistics.shares import wilson_interval
from runtime_matrix.experiments.traffic.driver import Driven, Served
from runtime_matrix.runtimes.requests import Failed, Generated

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
    complete = [served for served in requests if isinstance(served.result, Generated)]
    failures = [served.result for served in requests if isinstance(served.result, Failed)]
    cancelled = sum(failure.is_cancelled for failure in failures)
    met = sum(objective.is_met(served) for served in requests)
    interval = wilson_interval(met, len(requests))
    new_tokens = sum(len(served.tokens_s) for served in complete)
    return {
        "requests": len(requests),
        "completed_requests": len(complete),
        "failed_requests": len(failures) - cancelled,
        "cancelled_requests": cancelled,
        "error_ratio": (len(requests) - len(complete)) / len(requests),
        "first_failure": failures[0].reason if failures else None,
        "duration_s": duration_s,
        "requests_per_s": _rate(len(complete), duration_s),
        "tokens_per_s": _rate(new_tokens, duration_s),
        "prompt_tokens": sum(served.prompt_tokens for served in complete),
        "new_tokens": new_tokens,
        "goodput_requests_per_s": _rate(met, duration_s),
        "objective_ratio": met / len(requests),
        "objective_ratio_low": interval.low,
        "objective_ratio_high": interval.high,
        "most_in_flight": driven.most_in_flight,
        "cached_prompt_ratio": cached_ratio(complete),
    }


def cached_ratio(requests: Sequence[Served]) -> float | None:
    """Return the share of prompt tokens that the engine took from its cache; None if it does not tell."""
    counts = [served.usage.cached_tokens for served in requests]
    known = [count for count in counts if count is not None]
    if not requests or len(known) < len(requests):
        return None
    return sum(known) / sum(served.prompt_tokens for served in requests)


def _rate(count: int, duration_s: float) -> float | None:
    return count / duration_s if duration_s > 0 else None
