"""Records of earlier versions are read, and not refused."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.migration import read_record
from runtime_matrix.experiments.records.schema import SCHEMA_VERSION, HardwarePeak, to_plain
from tests.experiments.recorded import make_record


def old_record() -> JsonObject:
    """Return a record as schema 1 first wrote it: without versions, with the peak under its earlier name."""
    content: JsonObject = to_plain(make_record("eager"))
    content["config"] = {**content["config"], "benchmark": {"code": {"limit": 3}, "latency": None}}
    content["ceiling"] = content.pop("hardware_peak")
    content["jobs"]["ceiling"] = content["jobs"].pop("hardware_peak")
    for later in ("benchmark_versions", "code", "sweep", "fit", "overlap", "failures"):
        content.pop(later)
    return {**content, "schema_version": 1}


def test_a_record_of_this_version_is_read_as_it_was_written() -> None:
    record = make_record("eager")
    assert read_record(to_plain(record)) == record


def test_a_record_of_schema_1_is_read() -> None:
    record = read_record(old_record())
    assert record.schema_version == SCHEMA_VERSION
    assert record.benchmark_versions == {"code": 1}
    assert record.hardware_peak == HardwarePeak(copy_bytes_per_s=3e10, flops_per_s={"float32": 2e11})
    assert record.jobs["hardware_peak"] == 0.1
    assert replace(record, config={}, benchmark_versions={}) == replace(make_record("eager"), config={})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "foreign"),
        ({}, "foreign"),
        ({"schema_version": 0}, "older schema 0, which this program cannot migrate: measure again"),
        ({"schema_version": SCHEMA_VERSION + 1}, f"schema {SCHEMA_VERSION + 1}, this program reads up to"),
        ({"schema_version": "1"}, "schema 1, this program reads up to"),
        ({"schema_version": 1, "config": {"benchmark": ["code"]}}, "damaged: 'list' object has no attribute"),
        ({"schema_version": 1, "jobs": 3}, "damaged: 'int' object is not iterable"),
        ({"schema_version": 1}, "damaged: Object missing required field `run_id`"),
        ({**to_plain(make_record("eager")), "benchmarks": [{}]}, r"damaged: .* at `\$\.benchmarks\[0\]`"),
        ({**to_plain(make_record("eager")), "model": {"name": 3}}, r"damaged: .* at `\$\.model"),
    ],
)
def test_other_content_is_refused_with_a_reason(content: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_record(content)
