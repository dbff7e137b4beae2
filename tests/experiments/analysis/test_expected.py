"""What profiles expect: the numbers of the claims, with measured figures beside them where they apply."""

from __future__ import annotations

import re
from typing import Any

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.expected import expectations, expected_note
from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.config.compose import compose, options
from runtime_matrix.experiments.config.schema import HwConfig
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.ledger.claim import read_claims
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.reports.text import foot
from tests.experiments.recorded import make_record, result

EXPECTING = ("kaggle_t4x2", "colab_t4", "a100_40gb", "rtx4090")
FIGURES = {"detection_samples_per_min": 9.04, "detection_peak_bytes": 13.25e9, "detection_auc": None}
NAME = "Optimization Guide expects of Llama-2-7b"


def profile(name: str) -> HwConfig:
    config: CellConfig = build(CellConfig, compose([f"hw={name}", "model=random"]))
    return config.hw


def record(name: str, model: str = "meta-llama--Llama-2-7b-hf", **hw: Any) -> Record:
    resolved = compose([f"hw={name}", "model=random"])
    made = make_record("eager")
    return replace(
        made,
        config={**resolved, "hw": {**resolved["hw"], **hw}},
        hw=replace(made.hw, name=name),
        model=replace(made.model, name=model),
    )


def test_the_profiles_of_the_document_expect_something() -> None:
    assert tuple(name for name in options("hw") if profile(name).expected) == tuple(sorted(EXPECTING))


@pytest.mark.parametrize("name", EXPECTING)
def test_expected_figures_are_those_of_the_claims(name: str) -> None:
    claims = {claim.id: claim for claim in read_claims()}
    for figure in profile(name).expected:
        claim = claims[figure.claim]
        assert claim.document == profile(name).expected_by.document  # type: ignore[union-attr]
        if claim.unit == figure.unit and claim.low is not None and claim.high is not None:
            assert claim.low <= figure.low <= figure.high <= claim.high
            assert claim.low + claim.high == pytest.approx(figure.low + figure.high)  # one figure has 10 % around it
        else:
            numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", str(claim.baseline))]
            assert [figure.low, figure.high] == [min(numbers), max(numbers)]


def test_measured_figures_stand_beside_the_expected_ones() -> None:
    there = record("colab_t4")
    assert [one.measured for one in expectations(there, FIGURES)] == pytest.approx([9.04, 13.25])
    assert expected_note(there, FIGURES) == (
        f"colab_t4, as {NAME}: detection 8 to 10 samples/min, measured 9.04 samples/min, memory 13 to 14 GB, "
        "measured 13.2 GB"
    )
    assert [one.measured for one in expectations(record("kaggle_t4x2"), FIGURES)][2:] == [None, None, None]


@pytest.mark.parametrize(
    "elsewhere", [record("colab_t4", model="bundled"), record("colab_t4", allow_mismatch=True)], ids=["model", "card"]
)
def test_figures_of_another_model_or_card_are_no_measurement_of_it(elsewhere: Record) -> None:
    assert [one.measured for one in expectations(elsewhere, FIGURES)] == [None, None]


def test_the_table_shows_them_and_other_profiles_expect_nothing() -> None:
    for name, count in (("rtx4090", 1), ("a100", 0), ("auto", 0)):
        row = rows([result(record(name))], all=True)
        expected = f"eager: rtx4090, as {NAME}: detection 60 to 80 samples/min, measured n/a, memory 18 to 20 GB, "
        assert sum(line == f"{expected}measured n/a" for line in foot(row)) == count
