"""Names of earlier versions are refused with today's, and read in what was recorded under them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.config.compose import compose, compose_gate
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.renamed import OPTIONS, PRESETS, new_figure
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.gates.limits import GateConfig
from runtime_matrix.experiments.records.migration import read_record
from runtime_matrix.experiments.records.published import published_rows
from runtime_matrix.experiments.records.schema import to_plain
from runtime_matrix.experiments.records.store import read_results
from tests.experiments.recorded import make_record, sweep


@pytest.mark.parametrize(("old", "new"), OPTIONS.items())
def test_an_old_option_is_refused_with_its_new_name(old: str, new: str) -> None:
    section, _, key = old.partition(".")

    def compose_with_it() -> None:
        if section == "gate":
            build(GateConfig, compose_gate("ci", [f"{old}=1"]), "gate")
        compose([f"{old}=1"])

    with pytest.raises(UserError, match=rf"^{old} was renamed to {new}$"):
        compose_with_it()
    if section != "gate":
        plain = compose([])
        plain[section] = {**plain[section], key: 1}  # as in a preset of one's own
        with pytest.raises(UserError, match=f"was renamed to {new}"):
            build(CellConfig, plain)


@pytest.mark.parametrize(("old", "new"), PRESETS.items())
def test_an_old_preset_is_refused_with_its_new_name(old: str, new: str) -> None:
    with pytest.raises(UserError, match=f"^{old} was renamed to {new}, because it quantizes activations too$"):
        compose(["runtime=onnxruntime", old] if "/" in old else [old])
    assert compose(["runtime=onnxruntime", new] if "/" in new else [new])


def test_a_record_s_options_are_read_under_their_new_names() -> None:
    content = to_plain(make_record("eager"))
    content["config"] |= {"sandbox": {"insist": True, "cpu_s": 3}, "seed": 1}
    assert read_record(content).config["sandbox"] == {"allow_unsafe": True, "cpu_s": 3}


def test_a_published_matrix_is_read_under_the_new_names(tmp_path: Path) -> None:
    needed = {"runtime": "eager", "model": "m", "hw": "auto", "status": "ok", "is_reference": True, "threads": 2}
    texts = {"record_id": "r", "run_id": "r", "started_at": "2026-11-01T10:00:00+00:00"}
    row = {**needed, **texts, "pays_after_tokens_low": 3.0, "code_same_texts_ratio": 0.5}
    (tmp_path / "matrix.json").write_text(json.dumps([row]))
    (read,) = published_rows(tmp_path / "matrix.json", [])
    assert (read["break_even_tokens_low"], read["code_output_match_rate"]) == (3.0, 0.5)
    assert new_figure("tpot_s_p50") == "tpot_s_p50"


def test_old_output_differences_are_read(tmp_path: Path) -> None:
    folder = sweep(tmp_path / "runs")
    for path in folder.rglob("output_diff.json"):
        path.rename(path.with_name("answers.json"))
    assert any(result.diff is not None for result in read_results(folder)[0])
