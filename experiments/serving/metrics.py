"""The counters of the server in the text format of Prometheus."""

from __future__ import annotations

from runtime_matrix.experiments.evaluation.continuous import ContinuousBatching

_PREFIX = "runtime_matrix_server"


def page(scheduler: ContinuousBatching) -> str:
    """Return the page for /metrics."""
    counts = scheduler.counts
    rows: list[tuple[str, str, str, float]] = [
        ("rows_running", "gauge", "Texts in the last step", counts.running),
        ("requests_open", "gauge", "Texts and scoring requests that wait or run", counts.admitted),
        ("requests_finished_total", "counter", "Texts and scoring requests that have ended", counts.finished),
        ("requests_cancelled_total", "counter", "Requests whose client left", counts.cancelled),
        ("requests_refused_total", "counter", "Requests beyond serve.max_requests", counts.refused),
        ("requests_failed_total", "counter", "Requests that ended with an error of the runtime", counts.failed),
        ("prompt_tokens_total", "counter", "Tokens of prompts that were started", counts.prompt_tokens),
        ("generated_tokens_total", "counter", "Generated tokens", counts.new_tokens),
        ("steps_total", "counter", "Steps of the decoding loop", counts.steps),
        ("busy_seconds_total", "counter", "Time in steps and scoring", counts.busy_s),
    ]
    lines = []
    for name, kind, meaning, value in rows:
        lines += [f"# HELP {_PREFIX}_{name} {meaning}.", f"# TYPE {_PREFIX}_{name} {kind}", f"{_PREFIX}_{name} {value}"]
    return "\n".join(lines) + "\n"
