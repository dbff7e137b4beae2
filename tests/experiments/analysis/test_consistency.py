"""No matrix that is published contradicts itself, and what would contradict itself is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.consistency import contradictions
from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.records.published import published_rows
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.reports.reading import read
from runtime_matrix.experiments.reports.text import foot
from tests.conftest import ROOT
from tests.experiments.recorded import changed_row, make_record, sweep, write

PUBLISHED = sorted([*ROOT.glob("results/*/matrix.json"), *ROOT.glob("results/*/full.json")])
Rows = dict[str, Row]


@pytest.fixture
def swept(tmp_path: Path) -> Rows:
    return {row.runtime: row for row in rows(read(sweep(tmp_path, has_garbage=True))[0])}


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: "/".join(path.parts[-2:]))
def test_no_published_row_contradicts_itself(path: Path) -> None:
    assert contradictions(published_rows(path, ())) == []


def test_rows_of_this_version_do_not_contradict_themselves(swept: Rows) -> None:
    assert contradictions(list(swept.values())) == []


def test_a_contradiction_stands_below_the_matrix(swept: Rows) -> None:
    matrix = [replace(row, start_kind=None) if row.runtime == "compile" else row for row in swept.values()]
    assert "NOTE contradiction in compile: measured, but without start_kind" in foot(matrix)


def test_speeds_of_two_clocks_that_disagree_have_a_note(tmp_path: Path) -> None:
    cells = [make_record("eager"), make_record("gptq")]
    found = rows(read(write(tmp_path, cells, {"gptq": 0.62}, cpu_speedups={"gptq": 1.09}))[0])
    assert contradictions(found) == []
    assert found[1].speed_note is not None
    assert found[1].speed_note.startswith("0.62× by wall time, 1.09× by CPU time of one thread")
    found[1] = replace(found[1], speed_note=None)
    assert contradictions(found) == [
        "gptq: 0.62 by wall time and 1.09 by CPU time, beyond both intervals and without a speed_note"
    ]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (
            "compile",
            {"tpot_s_p50": 0.004, "tpot_s_p50_low": 0.0039, "tpot_s_p50_high": 0.0041},
            "tpot_s_p50 gives 0.50×, speedup_ratio 1.50×",
        ),
        ("compile", {"latency_source": "alone"}, "a speedup, but times that were not interleaved"),
        ("compile", {"speedup_ratio_low": 0.9, "break_even_tokens": 641.0}, "break_even_tokens 641, but speedup_ratio"),
        ("compile", {"speedup_ratio_low": 1.6}, "is not within [1.6, "),
        ("compile", {"start_kind": None}, "measured, but without start_kind"),
        ("t_garbage", {"speedup_ratio": 165.0}, "wrong output, but with speedup_ratio"),
        ("t_garbage", {"throughput_tokens_per_s": 1e6}, "wrong output, but with throughput_tokens_per_s"),
        ("offload", {"reason": None}, "out_of_memory, but without a reason"),
    ],
)
def test_contradictions_are_found(swept: Rows, name: str, change: dict[str, float | str | None], said: str) -> None:
    swept[name] = changed_row(swept[name], **change)
    found = contradictions(list(swept.values()))
    assert any(one.startswith(f"{name}: ") and said in one for one in found), found


def test_a_row_of_another_version_is_reported(swept: Rows) -> None:
    del swept["compile"].figures["cpu_speedup_ratio"]
    assert contradictions(list(swept.values())) == ["compile: no cpu_speedup_ratio"]
