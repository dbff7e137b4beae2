from __future__ import annotations

from dataclasses import replace as with_fields
from typing import Any

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.roofline import (
    RequestShape,
    flops_ratio,
    memory_bandwidth_ratio,
    peak_note,
    positions,
)
from runtime_matrix.experiments.config.models import ModelShape
from runtime_matrix.experiments.records.schema import HardwarePeak, HeldWeights, Load, Record
from tests.experiments.recorded import make_record

SHAPE = ModelShape(layers=2, kv_heads=1, head_width=8, hidden=16, vocabulary=100, is_tied=False)
PEAK = HardwarePeak(copy_bytes_per_s=1e6, flops_per_s={"float32": 1e6})
LOAD = Load(phases_s={}, dtype="float32", device="cpu", weight_bytes=40_000)
ASKED = RequestShape(batch=1, prompt_tokens=10, new_tokens=4)


def record(
    shape: ModelShape | None = SHAPE, weights: str = "full", placement: str = "device", **changes: Any
) -> Record:
    made = make_record("eager")
    return replace(
        made,
        **{
            "model": replace(made.model, shape=shape),
            "runtime": replace(made.runtime, weights=weights, placement=placement),
            "load": LOAD,
            "hardware_peak": PEAK,
            **changes,
        },
    )


def test_decoding_reads_weights_and_keys_but_not_the_embedding() -> None:
    kv = 2 * 2 * 1 * 8 * 4 * 12
    assert memory_bandwidth_ratio(record(), 0.1, ASKED) == pytest.approx((40_000 - 6400 + kv) / 0.1 / 1e6)
    tied = record(shape=with_fields(SHAPE, is_tied=True))
    assert memory_bandwidth_ratio(tied, 0.1, ASKED) == pytest.approx((40_000 + kv) / 0.1 / 1e6)


def test_a_cache_of_fewer_bits_is_read_as_such() -> None:
    found = memory_bandwidth_ratio(record(load=replace(LOAD, kv_dtype="q8_0", kv_bytes_per_token=34)), 0.1, ASKED)
    assert found == pytest.approx((40_000 - 6400 + 34 * 12) / 0.1 / 1e6)


def test_prefill_multiplies_every_weight_but_the_tables() -> None:
    assert flops_ratio(record(), 10.0) == pytest.approx(2 * (10_000 - 3200) * 10 / 1e6)


@pytest.mark.parametrize(
    "incomplete",
    [record(hardware_peak=None), record(load=None), record(shape=None), record(load=replace(LOAD, weight_bytes=None))],
    ids=["hardware_peak", "load", "shape", "weight_bytes"],
)
def test_unknown_shares_are_none(incomplete: Record) -> None:
    assert memory_bandwidth_ratio(incomplete, 0.1, ASKED) is None
    assert flops_ratio(incomplete, 10.0) is None
    assert memory_bandwidth_ratio(record(), None, ASKED) is None


def test_packed_weights_have_no_mfu() -> None:
    assert flops_ratio(record(weights="gptq"), 10.0) is None


def test_positions_on_the_roofline_agree_with_the_shares() -> None:
    found = positions(record(), 0.5, 0.1, ASKED)
    intensity, rate = found["decode"]
    assert rate / intensity / 1e6 == pytest.approx(memory_bandwidth_ratio(record(), 0.1, ASKED))  # bytes a second
    assert rate == pytest.approx(2 * (10_000 - 1600) / 0.1)  # the head is applied at each step
    assert found["prefill"][1] == pytest.approx(2 * (6_800 * 10 + 1600) / 0.5)
    assert found["prefill"][0] > intensity


def test_the_declared_form_decides_instead_of_the_name() -> None:
    dense = HeldWeights(form="dense", keeps_values=False, is_whole=True)
    rounded = record(weights="rounded", load=replace(LOAD, held=dense))
    assert flops_ratio(rounded, 10.0) == flops_ratio(record(), 10.0)
    assert positions(rounded, 0.5, 0.1, ASKED) == positions(record(), 0.5, 0.1, ASKED)
    whole = record(placement="interleaved", load=replace(LOAD, held=dense))
    assert flops_ratio(whole, 10.0) == flops_ratio(record(), 10.0)
    for held in (replace(dense, form="packed"), replace(dense, form="onnx"), replace(dense, is_whole=False)):
        assert flops_ratio(record(load=replace(LOAD, held=held)), 10.0) is None


def test_a_record_without_a_declared_form_is_read_by_its_names() -> None:
    assert record().held() == HeldWeights(form="dense", keeps_values=True, is_whole=True)
    assert record(weights="rounded").held() == HeldWeights(form="packed", keeps_values=False, is_whole=True)
    assert record(placement="host").held() == HeldWeights(form="dense", keeps_values=True, is_whole=False)
    assert record(load=None).held() == record().held()


@pytest.mark.parametrize("other", [record(load=None), record(weights="gptq")], ids=["unknown", "packed"])
def test_packed_or_unknown_weights_have_no_position(other: Record) -> None:
    assert positions(other, 0.5, 0.1, ASKED) == {}


def test_operations_of_packed_weights_are_those_of_the_full_model() -> None:
    packed = record(weights="gptq", load=replace(LOAD, weight_bytes=15_000))
    found, full = positions(packed, 0.5, 0.1, ASKED, record()), positions(record(), 0.5, 0.1, ASKED)
    assert found["decode"][1] == full["decode"][1]
    assert found["decode"][0] > full["decode"][0]  # fewer bytes for as many operations
    assert positions(packed, 0.5, 0.1, ASKED, packed) == {}
    offloaded = record(placement="host")
    assert positions(offloaded, 0.5, 0.1, ASKED, record()) == {}


@pytest.mark.parametrize(
    ("peak", "shares", "says"),
    [
        ({}, (0.5, 0.9), None),
        ({}, (1.3, 0.9), "MBU is 130 % of a copy through memory: more than 100 % is possible"),
        ({}, (0.5, 1.1), "MFU is 110 % of the fastest product measured"),
        (
            {"others_ratio": 0.4},
            (0.5, 0.9),
            "other processes took 40 % of the CPUs while the hardware peak was measured",
        ),
        ({"steal_ratio": 0.2, "others_ratio": None}, (None, 0.9), "other processes took 20 % of the CPUs"),
        ({"others_ratio": 0.4}, (None, None), None),
    ],
)
def test_a_doubtful_share_has_a_note(
    peak: dict[str, float | None], shares: tuple[float | None, float | None], says: str | None
) -> None:
    said = peak_note(record(hardware_peak=replace(PEAK, **peak)), *shares)
    assert said is None if says is None else said is not None and says in said
