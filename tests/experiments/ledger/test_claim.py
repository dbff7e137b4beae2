"""The claims in `conf/claims`: each names a figure that a record can hold, and files of another form are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime_matrix.experiments.analysis.columns import column_of
from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.config.compose import compose, options
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.detector.techniques import techniques
from runtime_matrix.experiments.ledger.claim import Claim, MeasuredBy, chosen, read_claims
from runtime_matrix.experiments.records.switches import CLOCKS, switch_key
from runtime_matrix.experiments.records.techniques import is_technique_key, technique_key, technique_label
from runtime_matrix.experiments.tasks.registry import further_metric
from runtime_matrix.experiments.validation.tasks.ablation import SWITCHES
from runtime_matrix.experiments.validation.tasks.detection_techniques import DETECTION_SWITCHES
from runtime_matrix.experiments.validation.tasks.execution import EXECUTION_SWITCHES
from runtime_matrix.experiments.validation.tasks.http_ablation import HTTP_SWITCHES
from runtime_matrix.experiments.validation.tasks.judge_switches import JUDGE_SWITCHES
from runtime_matrix.experiments.validation.tasks.long_sequences import LONG_SWITCHES

ALL_SWITCHES = [*SWITCHES, *HTTP_SWITCHES, *EXECUTION_SWITCHES, *DETECTION_SWITCHES, *JUDGE_SWITCHES, *LONG_SWITCHES]

PRESETS = [name for name in options("runtime") if name not in ("custom", "fake")]
CLAIM = "{id: a, section: s, summary: t, quantity: time, direction: gain, low: 2, unmeasured: why}"


def runtimes() -> set[str]:
    configs = [build(CellConfig, compose([f"runtime={name}", "model=random"])) for name in PRESETS]
    return {config.runtime.title for config in configs}


def unknown(by: MeasuredBy, titles: set[str]) -> list[str]:
    """Return what no record can hold: a switch, a figure or a cell."""
    figures = [figure for figure in (by.figure, by.over_figure) if figure is not None]
    cells = [cell.partition("/")[0] for cell in (by.cell, by.over) if cell is not None]
    return [
        *([by.switch] if by.switch is not None and by.switch not in ALL_SWITCHES else []),
        *(figure for figure in figures if column_of(figure) is None),
        *(cell for cell in cells if cell not in titles),
    ]


def test_each_claim_names_a_figure_that_a_record_can_hold() -> None:
    titles = runtimes()
    claims = read_claims()
    assert {
        claim.id: found for claim in claims if claim.measured_by and (found := unknown(claim.measured_by, titles))
    } == {}
    assert unknown(MeasuredBy(switch="none such"), titles) == ["none such"]
    assert unknown(MeasuredBy(figure="none_such", cell="eagre"), titles) == ["none_such", "eagre"]


def test_each_switch_has_figures_of_a_row() -> None:
    keys = [switch_key(name, clock) for name in ALL_SWITCHES for clock in CLOCKS]
    assert len(set(keys)) == len(keys)
    assert all(further_metric(f"{key}{end}") for key in keys for end in ("", "_low", "_high"))


def test_the_techniques_of_claims_are_measured() -> None:
    figures = {claim.measured_by.figure for claim in read_claims() if claim.measured_by is not None}
    keys = {technique_key(technique_label(one.name, one.figure)) for one in techniques(["(0, 0)"], seed=0)}
    assert {figure for figure in figures if figure is not None and is_technique_key(figure)} <= keys


def test_ids_are_unique_and_every_document_is_there() -> None:
    claims = read_claims()
    assert len({claim.id for claim in claims}) == len(claims) > 85
    assert len({claim.document for claim in claims}) == 5
    assert all(claim.summary.endswith(".") and claim.section for claim in claims)


def test_a_claim_about_other_hardware_says_so_where_it_is_measured() -> None:
    silent = [claim.id for claim in read_claims() if claim.hardware and claim.measured_by and not claim.other_baseline]
    assert silent == []


@pytest.mark.parametrize(
    ("claim", "problem"),
    [
        (CLAIM.replace("unmeasured: why", "direction: up"), "direction"),
        (CLAIM.replace("low: 2", "low: 0.5"), "a gain is a factor of at least 1"),
        (CLAIM.replace("low: 2", "low: 3, high: 2"), "low is above high"),
        (CLAIM.replace("low: 2, ", ""), "needs low, high, or claimed"),
        (CLAIM.replace(", unmeasured: why", ""), "needs measured_by or unmeasured"),
        (CLAIM.replace("unmeasured: why", "measured_by: {clock: cpu}"), "needs a switch or a figure"),
        (CLAIM.replace("direction: gain", "direction: level"), "a level has a unit"),
        (CLAIM.replace("low: 2", "low: many"), "low"),
        (CLAIM.replace("low: 2", "lowest: 2"), "lowest"),
    ],
)
def test_a_claim_of_another_form_is_refused_in_one_line(claim: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"document: d\nclaims:\n  - {claim}\n")
    with pytest.raises(UserError, match=problem) as error:
        read_claims(tmp_path)
    assert "\n" not in str(error.value)


def test_claims_are_chosen_by_id(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"document: d\nclaims:\n  - {CLAIM}\n  - {CLAIM.replace('id: a', 'id: b')}\n")
    claims: tuple[Claim, ...] = read_claims(tmp_path)
    assert [claim.id for claim in chosen(claims, [])] == ["a", "b"]
    assert [(claim.id, claim.document) for claim in chosen(claims, ["b"])] == [("b", "d")]
    with pytest.raises(UserError, match="c is not the id of a claim"):
        chosen(claims, ["c"])
