"""The audit of a record and its launches: whether the timed work is the requested work, and the work that was scored.

Six checks after MLPerf's compliance tests, derived on reading. A failed check is a status of the row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.analysis.paired_outputs import ROUNDING_NATS
from runtime_matrix.experiments.analysis.thread_use import threads
from runtime_matrix.experiments.analysis.timed_work import (
    is_exact,
    left_running,
    remembered,
    replay_problem,
    runs_the_references_weights,
    unchecked,
    wrong_tokens,
)
from runtime_matrix.experiments.records.audit import Audit, AuditVerdict, Check, CheckName, Probe
from runtime_matrix.experiments.records.comparison import Launch, Speed
from runtime_matrix.experiments.records.schema import INVALID_TIMING, WRONG_OUTPUT, Entry, Record, Status

OLDER = "the record is older"
NOT_INTERLEAVED = "not interleaved"
_SMALLEST_ORDER_RATIO = 0.1  # of the difference between two rows; rounding stays below 0.01 in every dtype
_OTHER_TOKENS = 0.1  # share of positions whose top token may differ by a near tie
_STATUS: dict[CheckName, Status] = {
    "timed_answers": WRONG_OUTPUT,
    "token_counts": WRONG_OUTPUT,
    "row_order": WRONG_OUTPUT,
    "repeated_prompts": INVALID_TIMING,
    "threads": INVALID_TIMING,
    "after_clock": INVALID_TIMING,
}


@dataclass(frozen=True)
class Problem:
    """A failed check; `status` and `reason` become the row's."""

    status: Status
    reason: str


def audit(record: Record, speed: Speed | None) -> Audit:
    """Return the verdict of each check on a record and its launches."""
    launches = speed.launches if speed is not None else []
    return Audit(
        checks=[
            _timed_answers(record, speed),
            _repeated_prompts(launches, record),
            _token_counts(record, launches),
            _row_order(record, launches),
            _threads(record, launches),
            _after_clock(launches),
        ]
    )


def problem(audited: Audit) -> Problem | None:
    """Return the first failed check as the status and reason of a row; None if none failed."""
    failed = next((check for check in audited.checks if check.verdict == "fail"), None)
    return None if failed is None else Problem(_STATUS[failed.name], failed.found)


def _check(name: CheckName, verdict: AuditVerdict, found: str, **figures: float) -> Check:
    return Check(name=name, verdict=verdict, found=found, figures=figures)


def _judged(name: CheckName, wrong: str | None, right: str, **figures: float) -> Check:
    return _check(name, "pass" if wrong is None else "fail", right if wrong is None else wrong, **figures)


def _timed_answers(record: Record, speed: Speed | None) -> Check:
    """Compare timed tokens with the reference's, and the timed process with the scored one by their probes."""
    agreement = record.agreement_figures()
    if speed is None or not speed.launches:
        return _replayed(record, agreement)
    counts = [launch.tokens for launch in speed.launches if launch.tokens is not None]
    wrong = wrong_tokens(counts, speed.token_rule, agreement) if counts else None
    probes = _timed_probes(speed.launches)
    difference = max((_difference(record.probe, probe) for probe in probes), default=None) if record.probe else None
    figures = {"tokens": float(sum(count.tokens for count in counts))}
    if difference is not None:
        figures["probe_nats"] = difference
        wrong = wrong or _other_runtime(record, probes, difference)
    if wrong is None and (reason := unchecked(speed, agreement, record.load)) is not None:
        return _check("timed_answers", "not_checked", reason, **figures)
    if not counts and difference is None:
        return _check("timed_answers", "not_checked", OLDER)
    rows, same_rows = sum(count.rows for count in counts), sum(count.same_rows for count in counts)
    texts = [f"{same_rows:,} of {rows:,} timed texts equal the reference's"] if counts else []
    if difference is not None:
        texts.append(f"the timed process answers the probe as the scored one does, up to {difference:.1e} nats")
    return _judged("timed_answers", wrong, "; ".join(texts), **figures)


def _replayed(record: Record, agreement: Entry | None) -> Check:
    """Judge the latency benchmark's tokens, of a cell that was not interleaved."""
    reference = record.config.get("reference") or {}
    runtime = record.config.get("runtime") or {}
    if record.replay is None or not is_exact(runtime, reference) or not runs_the_references_weights(record):
        return _check("timed_answers", "not_checked", NOT_INTERLEAVED)
    wrong = replay_problem(record.replay, True, agreement)
    right = f"{record.replay.tokens} tokens of the latency benchmark are the reference's, up to near ties"
    return _judged("timed_answers", wrong, right, tokens=record.replay.tokens)


def _timed_probes(launches: Sequence[Launch]) -> list[Probe]:
    return [launch.audit.probe for launch in launches if launch.audit is not None and launch.audit.probe is not None]


def _difference(scored: Probe, timed: Probe) -> float:
    """Return the largest difference of the top tokens' log-probabilities, in nats; infinite for other shapes."""
    if len(scored.logprobs) != len(timed.logprobs):
        return float("inf")
    return max(abs(one - other) for one, other in zip(scored.logprobs, timed.logprobs, strict=True))


def _other_runtime(record: Record, probes: Sequence[Probe], difference: float) -> str | None:
    """Return in what the timed process differs from the scored one beyond rounding; None if it does not."""
    assert record.probe is not None
    dtype = record.load.dtype if record.load is not None else record.runtime.dtype
    if difference > ROUNDING_NATS.get(dtype, max(ROUNDING_NATS.values())):
        return (
            f"the timed process computes something else than the scored one: the probe differs by {difference:.2g} nats"
        )
    scored = record.probe.top_tokens
    other = max(sum(one != two for one, two in zip(scored, probe.top_tokens, strict=True)) for probe in probes)
    if other > max(1, _OTHER_TOKENS * len(scored)):
        return f"the timed process chooses other tokens than the scored one in {other} of {len(scored)} places"
    return None


def _repeated_prompts(launches: Sequence[Launch], record: Record) -> Check:
    repeated = [launch.repeated for launch in launches if launch.repeated is not None]
    if not repeated:
        return _check("repeated_prompts", "not_checked", NOT_INTERLEAVED)
    if record.load is not None and record.load.caches_prompts:
        return _check("repeated_prompts", "pass", "the runtime declares that it caches prompts; timed prompts are new")
    found = remembered(repeated)
    if found.launches < found.fewest_launches:
        return _check("repeated_prompts", "not_checked", f"needs {found.fewest_launches} launches")
    right = f"a repeated prompt takes {found.ratio:.2f} of the time of a new one"
    return _judged("repeated_prompts", found.problem, right, **found.figures())


def _token_counts(record: Record, launches: Sequence[Launch]) -> Check:
    pairs = [*_of_launches(launches), *_of_entries(record)]
    if not pairs:
        return _check("token_counts", "not_checked", "nothing was timed")
    wrong = [
        f"{counted:,} tokens counted in {where}, {emitted:,} produced"
        for where, counted, emitted in pairs
        if counted != emitted
    ]
    total = sum(counted for _, counted, _ in pairs)
    return _judged("token_counts", wrong[0] if wrong else None, f"{total:,} tokens counted and produced", tokens=total)


def _of_launches(launches: Sequence[Launch]) -> Iterator[tuple[str, int, int]]:
    """Yield the place, the tokens behind the times, and the tokens that were compared with the reference's."""
    for number, launch in enumerate(launches, start=1):
        if launch.tokens is None or not all(block.candidate.steps_s for block in launch.blocks().values()):
            continue
        counted = sum(
            block.batch * (len(steps) + 1) for block in launch.blocks().values() for steps in block.candidate.steps_s
        )
        if launch.served is not None:
            counted += sum(part.new_tokens for part in launch.served.candidate)
        yield f"launch {number}", counted, launch.tokens.tokens + launch.tokens.missing


def _of_entries(record: Record) -> Iterator[tuple[str, int, int]]:
    latency, throughput = (record.entries().get(name) for name in ("latency", "throughput"))
    if latency is not None:
        steps, firsts = (len(latency.samples.get(name, [])) for name in ("tpot_s", "ttft_s"))
        yield "latency", int(firsts * (latency.parameter("new_tokens") or 0)), firsts + steps
    if throughput is not None and throughput.figure("step_rows") is not None:
        first = throughput.parameter("requests") or 0  # the first token of each request comes from its prefill
        yield (
            "throughput",
            int(throughput.parameter("new_tokens") or 0),
            int(first + (throughput.figure("step_rows") or 0)),
        )


def _row_order(record: Record, launches: Sequence[Launch]) -> Check:
    probes = [*([record.probe] if record.probe is not None else []), *_timed_probes(launches)]
    if not probes:
        reason = next((failure.reason for failure in record.failures if failure.job == "probe"), None)
        return _check("row_order", "not_checked", f"the probe failed: {reason}" if reason else OLDER)
    ratios = [probe.row_order_ratio for probe in probes if probe.row_order_ratio is not None]
    if not ratios:
        return _check("row_order", "not_checked", "the runtime takes one row at a time")
    share = f"{100 * max(ratios):.2g} % of the difference between two rows"
    wrong = (
        f"permuting the rows of a batch changes a row's outputs by {share}"
        if max(ratios) > _SMALLEST_ORDER_RATIO
        else None
    )
    right = f"permuted rows give permuted outputs, up to {share}"
    return _judged("row_order", wrong, right, ratio=max(ratios), rows=probes[0].rows)


def _threads(record: Record, launches: Sequence[Launch]) -> Check:
    ranks = len(record.load.ranks) if record.load is not None else 0
    use = threads(launches, record.hw.threads, max(1, ranks))
    if use is None:
        return _check("threads", "not_checked", _why_no_threads(launches))
    if record.load is not None and record.load.takes_whole_requests:
        found = "threads that serve requests cannot be told from those that compute"
        return _check("threads", "not_checked", found, **use.figures)
    return _judged("threads", use.problem, use.text, **use.figures)


def _why_no_threads(launches: Sequence[Launch]) -> str:
    if not launches:
        return NOT_INTERLEAVED
    return "on a GPU the host's threads do not compute" if launches[0].device == "cuda" else OLDER


def _after_clock(launches: Sequence[Launch]) -> Check:
    if not launches:
        return _check("after_clock", "not_checked", NOT_INTERLEAVED)
    found = left_running(launches)
    return _judged("after_clock", found.problem, found.text, **found.figures)
