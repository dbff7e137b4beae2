from __future__ import annotations

from typing import Any

import pytest

from runtime_matrix.experiments.records.roofline import flops_ratio, memory_bandwidth_ratio, peak_note, positions

SHAPE = {"layers": 2, "kv_heads": 1, "head_width": 8, "hidden": 16, "vocabulary": 100, "is_tied": False}
ASKED = {"batch": 1, "prompt_tokens": 10, "new_tokens": 4}


def record(**changes: Any) -> dict[str, Any]:
    made = {
        "model": {"shape": SHAPE},
        "runtime": {"weights": "full", "placement": "device"},
        "load": {"weight_bytes": 40_000, "dtype": "float32"},
        "hardware_peak": {"copy_bytes_per_s": 1e6, "flops_per_s": {"float32": 1e6}},
    }
    return made | changes


def test_decoding_reads_weights_and_keys_but_not_the_embedding() -> None:
    kv = 2 * 2 * 1 * 8 * 4 * 12
    assert memory_bandwidth_ratio(record(), 0.1, ASKED) == pytest.approx((40_000 - 6400 + kv) / 0.1 / 1e6)
    tied = record(model={"shape": SHAPE | {"is_tied": True}})
    assert memory_bandwidth_ratio(tied, 0.1, ASKED) == pytest.approx((40_000 + kv) / 0.1 / 1e6)


def test_prefill_multiplies_every_weight_but_the_tables() -> None:
    assert flops_ratio(record(), 10.0) == pytest.approx(2 * (10_000 - 3200) * 10 / 1e6)


@pytest.mark.parametrize(
    "changes", [{"hardware_peak": None}, {"load": None}, {"model": {"shape": None}}, {"load": {"weight_bytes": None}}]
)
def test_what_is_not_known_is_null(changes: dict[str, Any]) -> None:
    assert memory_bandwidth_ratio(record(**changes), 0.1, ASKED) is None
    assert flops_ratio(record(**changes), 10.0) is None
    assert memory_bandwidth_ratio(record(), None, ASKED) is None


def test_packed_weights_have_no_rate_to_compare_with() -> None:
    assert flops_ratio(record(runtime={"weights": "gptq", "placement": "device"}), 10.0) is None


def test_positions_on_the_roofline_agree_with_the_shares() -> None:
    found = positions(record(), 0.5, 0.1, ASKED)
    intensity, rate = found["decode"]
    assert rate / intensity / 1e6 == pytest.approx(memory_bandwidth_ratio(record(), 0.1, ASKED))  # bytes a second
    assert rate == pytest.approx(2 * (10_000 - 1600) / 0.1)  # the head is applied at each step
    assert found["prefill"][1] == pytest.approx(2 * (6_800 * 10 + 1600) / 0.5)
    assert found["prefill"][0] > intensity


@pytest.mark.parametrize("changes", [{"load": None}, {"runtime": {"weights": "gptq", "placement": "device"}}])
def test_packed_or_unknown_weights_have_no_position(changes: dict[str, Any]) -> None:
    assert positions(record(**changes), 0.5, 0.1, ASKED) == {}


def test_operations_of_packed_weights_are_the_models() -> None:
    packed = record(
        runtime={"weights": "gptq", "placement": "device"}, load={"weight_bytes": 15_000, "dtype": "float32"}
    )
    found, full = positions(packed, 0.5, 0.1, ASKED, record()), positions(record(), 0.5, 0.1, ASKED)
    assert found["decode"][1] == full["decode"][1]
    assert found["decode"][0] > full["decode"][0]  # fewer bytes for as many operations
    assert positions(packed, 0.5, 0.1, ASKED, packed) == {}
    offloaded = record(runtime={"weights": "full", "placement": "host"})
    assert positions(offloaded, 0.5, 0.1, ASKED, record()) == {}


@pytest.mark.parametrize(
    ("peak", "shares", "says"),
    [
        ({}, (0.5, 0.9), None),
        ({}, (1.3, 0.9), "MBU is 130 % of a copy through memory: more than 100 % is possible"),
        ({}, (0.5, 1.1), "MFU is 110 % of the fastest product measured"),
        ({"others_ratio": 0.4}, (0.5, 0.9), "others took 40 % of the CPUs while the hardware peak was measured"),
        ({"steal_ratio": 0.2, "others_ratio": None}, (None, 0.9), "others took 20 % of the CPUs"),
        ({"others_ratio": 0.4}, (None, None), None),
    ],
)
def test_a_share_that_cannot_be_taken_as_it_stands_has_a_note(
    peak: dict[str, Any], shares: tuple[float | None, float | None], says: str | None
) -> None:
    made = record(hardware_peak={"copy_bytes_per_s": 1e6, "flops_per_s": {"float32": 1e6}, **peak})
    said = peak_note(made, *shares)
    assert said is None if says is None else said is not None and says in said


def test_records_from_before_the_hardware_peak_had_its_name() -> None:
    older = record()
    older["ceiling"] = older.pop("hardware_peak")
    assert flops_ratio(older, 10.0) == flops_ratio(record(), 10.0)
    assert peak_note(older, 0.5, 0.5) is None
