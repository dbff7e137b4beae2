"""Why a cell is slower or larger, from scripted profiles. tests/experiments/test_injected_causes.py has real ones."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.causes import NOT_PROFILED, Side, causes, slower
from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.records.profile import PROFILE_SCHEMA_VERSION, OperationTime, PhaseProfile, Profile
from tests.experiments.recorded import changed_row, launches, make_record, result

BASE = {"products": 1.0, "attention": 0.3, "elementwise": 0.5}  # ms of a step of 2 ms; the rest is outside


def profile(
    kinds: dict[str, float], wall_ms: float = 2.0, used: float = 1.8, profiled_ms: float | None = 2.0, **more: Any
) -> Profile:
    operations = [
        OperationTime(kind=kind, name=f"a {kind} node", seconds=ms / 1e3, calls=1) for kind, ms in kinds.items()
    ]
    profiled_s = None if profiled_ms is None else profiled_ms / 1e3
    phase = PhaseProfile(
        wall_s=wall_ms / 1e3,
        cpu_s=used * wall_ms / 1e3,
        threads_used=used,
        profiled_s=profiled_s,
        operations=operations,
    )
    return Profile(schema_version=PROFILE_SCHEMA_VERSION, threads=2, phases={"decode": phase, "prefill": phase}, **more)


def side(own: Profile | None, weights: str = "full", placement: str = "device", **changes: Any) -> Side:
    record = make_record("cell")
    found = result(replace(record, runtime=replace(record.runtime, weights=weights, placement=placement)))
    (row,) = rows([found])
    return Side(found, changed_row(row, **changes), own)


REFERENCE = side(profile(BASE))
GROWN = {**BASE, "products": 3.0}


@pytest.mark.parametrize(
    ("cell", "cause", "says"),
    [
        (side(profile(BASE, used=1.0)), "fewer threads", "1.0 threads share its work, of 2"),
        (side(profile(BASE, counters={"graph_breaks": 3})), "graph breaks", "at 3 places"),
        (side(profile(BASE, recompiles=2)), "recompiles", "2 graphs were compiled"),
        (side(profile(BASE), timed_recompiles=4.0), "recompiles", "4 graphs were compiled within timed rounds"),
        (side(profile({**BASE, "fallback": 2.0}, 4, profiled_ms=4)), "fallback", "50 % of its time is in nodes"),
        (side(profile({**BASE, "casts": 2.0}, 4, profiled_ms=4)), "fallback", "50 % of its time is in casts (0 %"),
        (side(profile(GROWN, 4, profiled_ms=4), dtype_note="emulated"), "fallback", "emulated; products take 3.00 ms"),
        (side(profile(GROWN, 4, profiled_ms=4), "w8"), "dequantization", "costs 50 % of its time"),
        (side(profile({**BASE, "casts": 2.0}, 4, profiled_ms=4), "w8"), "dequantization", "a casts node"),
        (side(profile({**BASE, "copies": 2.0}, 4, profiled_ms=4), placement="disk"), "transfers", "weights move"),
        (side(profile(BASE, 5, profiled_ms=5)), "launch-bound", "are 3.20 ms of a step, the reference's 0.20 ms"),
        (side(profile(GROWN, 4, profiled_ms=4)), "slower products", "take 3.00 ms of a step, the reference's 1.00 ms"),
        (side(profile(BASE, profiled_ms=None)), "unknown", "no profiler"),
        (side(None, speed_note="a note"), NOT_PROFILED, "only its profile can tell; a note"),
    ],
)
def test_the_cause_of_a_slower_step_is_named_with_its_evidence(cell: Side, cause: str, says: str) -> None:
    found = slower("decode", cell, REFERENCE)
    assert (found.cause, says in found.evidence) == (cause, True), found.line


def test_work_too_small_for_threads_is_no_lack_of_threads() -> None:
    single = profile(BASE, used=1.0)
    assert slower("decode", side(profile(GROWN, 4, 1.0, 4)), side(single)).cause == "slower products"


def test_shares_are_applied_to_the_times_that_were_measured() -> None:
    cell = side(
        profile(GROWN, 4, profiled_ms=8),
        speedup_ratio=0.5,
        speedup_ratio_low=0.4,
        speedup_ratio_high=0.6,
        tpot_s_p50=0.016,
    )
    reference = side(profile(BASE), tpot_s_p50=0.008)
    # Outside its operations: (8 - 3.8) / 8 of 16 ms, against (2 - 1.8) / 2 of 8 ms.
    found = slower("decode", cell, reference)
    assert "8.40 ms of a step, the reference's 0.80 ms" in found.evidence
    assert found.symptom == "slower decode (0.50× [0.40, 0.60])"


def test_only_what_is_shown_is_explained() -> None:
    undecided = side(profile(GROWN), speedup_ratio=0.9, speedup_ratio_low=0.7, speedup_ratio_high=1.1)
    assert causes(undecided, REFERENCE) == []
    slow = side(
        profile(GROWN), prefill_speedup_ratio=0.9, prefill_speedup_ratio_low=0.8, prefill_speedup_ratio_high=0.95
    )
    assert [cause.symptom for cause in causes(slow, REFERENCE)] == ["slower prefill (0.90× [0.80, 0.95])"]


@pytest.mark.parametrize(
    ("peak_mib", "weight_bytes", "cause"),
    [(60.0, 40 << 20, "weights"), (200.0, 2_000_000, "activations and workspace")],
)
def test_the_part_of_the_memory_that_grew_most_is_named(peak_mib: float, weight_bytes: int, cause: str) -> None:
    ratio = {"memory_ratio": 1.5, "memory_ratio_low": 1.4, "memory_ratio_high": 1.6}

    def with_peaks(name: str, peak: float, size: int, **changes: Any) -> Side:
        record = make_record(name, peak_mib=peak)
        entries = [
            replace(entry, figures={**entry.figures, "decode_peak_host_bytes": int(peak * 2**20)})
            if entry.benchmark == "memory"
            else entry
            for entry in record.benchmarks
        ]
        found = result(replace(record, benchmarks=entries))
        (row,) = rows([found])
        return Side(found, changed_row(row, weight_bytes=float(size), **changes))

    (found,) = causes(with_peaks("cell", peak_mib, weight_bytes, **ratio), with_peaks("eager", 60.0, 2_000_000))
    assert (found.symptom, found.cause) == ("larger (1.50× [1.40, 1.60])", cause)


def test_launches_that_show_a_slower_cell_ask_for_a_profile() -> None:
    record = make_record("cell", slowness=2.0)
    found = result(record, launches(0.5))
    matrix = rows([found])
    assert {cause.cause for cause in causes(Side(found, matrix[0]), REFERENCE)} == {NOT_PROFILED}
