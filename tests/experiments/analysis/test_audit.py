"""The checks of the audit on launches of honest cells, of earlier records, and of each lie; figures are invented."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.audit import audit, problem
from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.records.audit import Audit, Check, Probe, Rest, TimedAudit
from runtime_matrix.experiments.records.comparison import Launch, Repeated
from runtime_matrix.experiments.records.schema import INVALID_TIMING, WRONG_OUTPUT, Load, RankLoad, Record
from tests.experiments import recorded

PROBE = Probe(rows=2, top_tokens=[1, 2, 3, 4], logprobs=[-0.5, -1.0, -1.5, -2.0], row_order_ratio=1e-7)
REPEATED = Repeated(fresh_s=[0.1], again_s=[0.1], new_prefill_s=[0.01], again_prefill_s=[0.0095])


def record(**changes: Any) -> Record:
    return replace(recorded.make_record("custom"), **{"probe": PROBE, **changes})


def launches(
    probe: Probe = PROBE,
    rest_s: float = 0.0,
    repeated: Repeated = REPEATED,
    busy: dict[str, tuple[float, float]] | None = None,
) -> list[Launch]:
    """Return two launches with evidence; `busy`: threads of the candidate and of the reference, by block."""
    evidence = TimedAudit(rest=Rest(wall_s=0.5, cpu_s=rest_s), probe=probe)
    made = [replace(launch, audit=evidence, repeated=repeated) for launch in recorded.launches(2.0, 2)]
    return [
        _with_threads(launch, {"own": (2, 2), "batched": (2, 2), "one_thread": (1, 1), **(busy or {})})
        for launch in made
    ]


def _with_threads(launch: Launch, busy: dict[str, tuple[float, float]]) -> Launch:
    blocks = {
        name: replace(
            block,
            candidate=replace(block.candidate, busy_threads=busy[name][0]),
            reference=replace(block.reference, busy_threads=busy[name][1]),
        )
        for name, block in launch.blocks().items()
    }
    return replace(launch, **blocks)


def audited(made: list[Launch], **changes: Any) -> Audit:
    return audit(record(**changes), recorded.speed(made))


def check(name: str, made: list[Launch], **changes: Any) -> Check:
    return next(check for check in audited(made, **changes).checks if check.name == name)


def test_honest_launches_pass_every_check() -> None:
    found = audited(launches())
    assert [check.verdict for check in found.checks] == ["pass"] * 6
    assert (found.verdict, found.note, problem(found)) == ("pass", None, None)


def test_an_earlier_record_is_not_checked_where_it_has_no_evidence() -> None:
    found = audit(recorded.make_record("custom"), recorded.speed(recorded.launches(2.0, 2)))
    verdicts = {check.name: check.verdict for check in found.checks}
    assert {name for name, verdict in verdicts.items() if verdict == "not_checked"} == {"row_order", "threads"}
    assert (found.verdict, found.note) == ("not_checked", "not checked: row order, threads: the record is older")


def test_a_cell_alone_says_what_was_not_checked() -> None:
    found = audit(record(), None)
    assert found.note == "not checked: timed answers, repeated prompts, threads, after clock: not interleaved"


def test_a_timed_process_that_answers_otherwise_is_found() -> None:
    moved = replace(PROBE, logprobs=[-0.5, -1.0, -1.5, -2.002])
    found = check("timed_answers", launches(moved))
    assert found.verdict == "fail"
    assert found.found.endswith("the probe differs by 0.002 nats")
    assert check("timed_answers", launches(replace(PROBE, logprobs=[-0.5, -1.0, -1.5, -2.0001]))).verdict == "pass"
    assert check("timed_answers", launches(replace(PROBE, logprobs=[-0.5]))).verdict == "fail"
    others = replace(PROBE, top_tokens=[9, 9, 9, 4])
    assert "other tokens than the scored one in 3 of 4 places" in check("timed_answers", launches(others)).found


def test_rows_that_depend_on_their_order_are_found_in_either_process() -> None:
    moved = replace(PROBE, row_order_ratio=0.7)
    assert check("row_order", launches(moved)).verdict == "fail"
    assert check("row_order", launches(), probe=moved).verdict == "fail"
    single = replace(PROBE, rows=1, row_order_ratio=None)
    assert check("row_order", launches(single), probe=single).verdict == "not_checked"


@pytest.mark.parametrize(
    ("busy", "found"),
    [
        ({"batched": (4, 2)}, "4 threads compute where 2 were requested"),
        ({"one_thread": (2, 1)}, "2 threads compute where 1 was requested"),
        ({"batched": (1, 2)}, "1 thread of 2 computes in batches, 2 of the reference"),
        ({"own": (1, 2)}, None),  # small work need not be split
        ({"batched": (1, 1)}, None),  # nor does the reference
    ],
)
def test_other_threads_than_requested_are_found(busy: dict[str, tuple[float, float]], found: str | None) -> None:
    threads = check("threads", launches(busy=busy))
    assert (threads.verdict, threads.found if found else None) == ("fail" if found else "pass", found)


def test_each_rank_computes_with_a_thread() -> None:
    rank = RankLoad(device="cpu", parameters=1, weight_bytes=4)
    load = Load(phases_s={}, dtype="float32", device="cpu", ranks=[rank, rank])
    assert check("threads", launches(busy={"one_thread": (2, 1)}), load=load).verdict == "pass"
    assert check("threads", launches(busy={"one_thread": (3, 1)}), load=load).verdict == "fail"
    assert check("threads", launches(busy={"own": (3, 2)}), load=load).verdict == "fail"


def test_threads_of_short_batches_are_not_judged() -> None:
    made = launches(busy={"batched": (1, 2)})
    short = []
    for launch in made:
        assert launch.batched is not None
        side = replace(launch.batched.candidate, rounds_cpu_s=0.019 * len(launch.batched.candidate.steps_s))
        short.append(replace(launch, batched=replace(launch.batched, candidate=side)))
    assert (check("threads", made).verdict, check("threads", short).verdict) == ("fail", "pass")


def test_threads_that_serve_requests_are_not_judged() -> None:
    whole = Load(phases_s={}, dtype="float32", device="cpu", takes_whole_requests=True)
    threads = check("threads", launches(busy={"own": (4, 2)}), load=whole)
    assert threads.verdict == "not_checked"
    assert threads.found == "threads that serve requests cannot be told from those that compute"


def test_more_cpu_time_than_threads_is_found() -> None:
    made = launches()
    fast = [
        replace(one, own=replace(one.own, candidate=replace(one.own.candidate, rounds_cpu_s=1.0)))
        for one in made
        if one.own is not None
    ]
    assert "s of CPU time per second with 2 threads" in check("threads", fast).found


def test_work_after_the_last_round_is_found() -> None:
    found = check("after_clock", launches(rest_s=0.05))
    assert (found.verdict, found.found) == ("fail", "computed for 0.10 s within 1.0 s after its last rounds")
    assert check("after_clock", launches(rest_s=0.009)).verdict == "pass"


def test_a_skipped_prefill_is_found_unless_it_is_declared() -> None:
    skipped = replace(REPEATED, again_prefill_s=[0.003])
    assert check("repeated_prompts", launches(repeated=skipped)).found.startswith("the prefill of a repeated prompt")
    load = recorded.make_record("custom").load
    assert load is not None
    declared = check("repeated_prompts", launches(repeated=skipped), load=replace(load, caches_prompts=True))
    assert (declared.verdict, "declares" in declared.found) == ("pass", True)


def test_a_load_that_slows_one_new_prompt_is_no_cache() -> None:
    slowed = replace(REPEATED, fresh_s=[0.3, 0.1], again_s=[0.1, 0.1])
    assert check("repeated_prompts", launches(repeated=slowed)).verdict == "pass"
    cached = replace(REPEATED, fresh_s=[0.3, 0.1], again_s=[0.01, 0.04])
    assert check("repeated_prompts", launches(repeated=cached)).verdict == "fail"


def test_counted_tokens_that_were_not_produced_are_found() -> None:
    made = launches()
    assert made[0].tokens is not None
    fewer = replace(made[0], tokens=replace(made[0].tokens, tokens=made[0].tokens.tokens - 9))
    assert check("token_counts", [fewer, made[1]]).verdict == "fail"
    latency = next(entry for entry in record().benchmarks if entry.benchmark == "latency")
    longer = replace(latency, samples={**latency.samples, "tpot_s": latency.samples["tpot_s"][1:]})
    assert "320 tokens counted in latency, 319 produced" in check("token_counts", made, benchmarks=[longer]).found


@pytest.mark.parametrize(
    ("made", "status"),
    [(launches(replace(PROBE, row_order_ratio=0.7)), WRONG_OUTPUT), (launches(rest_s=0.05), INVALID_TIMING)],
)
def test_a_failed_audit_marks_the_row_and_withholds_its_speed(made: list[Launch], status: str) -> None:
    (row,) = rows([replace_speed(made)])
    assert (row.status, row.audit, row["speedup_ratio"]) == (status, "fail", None)
    assert row.audit_note is not None
    assert row.reason is not None
    assert row.reason in row.audit_note


def replace_speed(made: list[Launch]) -> Any:
    return recorded.result(record(is_reference=False), made)
