"""Memory, loading and exact counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runtime_matrix.experiments.gates.axes import memory
from runtime_matrix.experiments.gates.findings import Measured
from tests.experiments.gates.judged import LIMITS, MIB, baseline, compared, found, speed


@pytest.mark.parametrize(
    ("key", "value", "limit"),
    [
        ("memory", {"weight_bytes": 4 * MIB - 1, "peak_host_bytes": 100 * MIB}, "baseline.memory.weight_bytes"),
        ("peaks", [80 * MIB, 80.1 * MIB, 79.9 * MIB], "baseline.memory.peak_host_bytes"),
        ("load", {"load_s": 0.5, "first_call_s": 1.0}, "baseline.load.load_s"),
        ("counts", {"graph_breaks": 0, "recompiles": 1, "tokens": 500}, "baseline.counts.recompiles"),
        ("counts", {"graph_breaks": 0, "recompiles": 2, "tokens": 501}, "baseline.counts.tokens"),
    ],
)
def test_a_figure_above_the_baseline_fails(measured: Measured, key: str, value: Any, limit: str) -> None:
    seen = found(replace(measured, baseline=baseline(**{key: value})))
    assert [name for name, finding in seen.items() if finding.verdict != "pass"] == [limit]
    assert seen[limit].verdict == "fail"
    assert "update=true" in seen[limit].message


def test_a_count_that_is_missing_now_is_inconclusive(measured: Measured) -> None:
    counts = {"graph_breaks": 0, "recompiles": 2, "tokens": 500, "fallback_nodes": 3}
    seen = found(replace(measured, baseline=baseline(counts=counts)))
    assert seen["baseline.counts.fallback_nodes"].verdict == "inconclusive"


def test_the_memory_limit_against_the_reference(measured: Measured) -> None:
    limits = LIMITS.replaced(memory.REFERENCE, {"peak_host_bytes": 0.1})
    assert found(measured, limits)["reference.memory.peak_host_bytes"].verdict == "pass"
    larger = compared(measured, speed(grown=0.11))
    seen = found(larger, limits)["reference.memory.peak_host_bytes"]
    assert seen.verdict == "fail"
    assert "+11.0 % [" in seen.message
    assert "raise gate.reference.memory.peak_host_bytes" in seen.message
