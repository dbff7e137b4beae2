"""The table of switches, the factor of one, and the figures that a record keeps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.tasks.bench import PhasePeak
from runtime_matrix.experiments.validation.ablation import Figures, Switch, measure, write_table
from runtime_matrix.experiments.validation.switches import _cut
from runtime_matrix.experiments.validation.tasks.ablation import SWITCHES, TASK
from runtime_matrix.experiments.validation.tasks.switched import ENDS
from tests.conftest import ROOT


class FakeClock:
    def __init__(self) -> None:
        self.now, self.turns = 0.0, 0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float, answer: Any) -> Any:
        self.now += seconds
        self.turns += 1
        return answer


def measured(on: Any, off: Any, pairs: int = 3, most_pairs: int | None = None) -> tuple[Figures, int]:
    clock = FakeClock()
    switch = Switch("x", lambda: clock.work(2.0, on), lambda: clock.work(6.0, off), most_pairs)
    return measure(switch, pairs, {"cpu": clock, "wall": lambda: 2 * clock()}).figures(), clock.turns


def test_a_factor_is_of_off_over_on_by_each_clock() -> None:
    figures, _ = measured([True], [True])
    assert figures == pytest.approx(dict.fromkeys(figures, 3.0))
    assert set(figures) == {f"{clock}{end}" for clock in ("cpu", "wall") for end in ("", "_low", "_high")}


def test_one_pair_has_no_interval_and_long_work_fewer_pairs() -> None:
    figures, turns = measured([True], [True], pairs=1)
    assert figures["cpu"] == pytest.approx(3.0)
    assert (figures["cpu_low"], turns) == (None, 4)
    assert measured([True], [True], pairs=9, most_pairs=2)[1] == 6


def test_a_switch_that_changes_answers_is_an_error() -> None:
    with pytest.raises(AssertionError, match="the answers differ"):
        measured(["a"], ["b"])
    with pytest.raises(AssertionError, match="scores differ"):
        measured([0.1], [0.2])


def test_peaks_of_memory_are_measured_beside_the_clocks() -> None:
    peaks = iter([300, 600, 600, 300] * 2)  # on, off, off, on

    @contextmanager
    def peak() -> Iterator[PhasePeak]:
        found = PhasePeak()
        yield found
        found.host_bytes = next(peaks)

    clock = FakeClock()
    switch = Switch("x", lambda: clock.work(2.0, [True]), lambda: clock.work(6.0, [True]))
    result = measure(switch, 4, {"cpu": clock}, peak)
    expected = {f"{name}{end}": factor for name, factor in (("cpu", 3.0), ("memory", 2.0)) for end in ENDS}
    assert result.figures() == pytest.approx(expected)
    assert result.samples()["off_memory_bytes"] == [600.0] * 4


def test_the_table_has_factors_and_no_claims(tmp_path: Path) -> None:
    figures: Figures = {"cpu": 1.2, "cpu_low": 1.1, "cpu_high": 1.3, "wall": 2.0, "wall_low": None, "wall_high": None}
    write_table(SWITCHES, {"overlap": figures}, tmp_path / "ablation.md", "a command", "Switches", "In turns.")
    row = (tmp_path / "ablation.md").read_text().splitlines()[-1]
    assert row == "| overlap | `benchmark.code.overlap` | 1.20 [1.10, 1.30] | 2.00 |"


def test_a_record_gives_the_row_its_factors() -> None:
    figures = {"cpu": 1.2, "cpu_low": 1.1, "cpu_high": 1.3, "wall": 2.0, "wall_low": None, "wall_high": None}
    entry = Entry(benchmark="ablation", status="ok", figures={"one load": figures})
    keys = TASK.further_keys(entry)
    assert len(keys) == 6
    metrics = {key: TASK.further(key) for key in keys}
    row = {key: metric.figures(entry)[key] for key, metric in metrics.items() if metric is not None}
    assert row["ablation_one_load_cpu_ratio"] == 1.2
    assert row["ablation_one_load_cpu_ratio_high"] == 1.3
    assert row["ablation_one_load_wall_ratio_low"] is None
    assert TASK.further("ablation_none_cpu_ratio") is None


def test_a_text_ends_at_its_first_stop_string() -> None:
    assert _cut("ab\nif c\ndef d", ("\ndef ", "\nif ")) == "ab"
    assert _cut("ab", ("\ndef ",)) == _cut("ab", ()) == "ab"


def test_the_published_table_has_every_switch() -> None:
    lines = (ROOT / "results" / "amd-epyc-2-cores" / "ablation.md").read_text(encoding="utf-8").splitlines()
    rows = [re.split(r" \| ", line.strip("| ")) for line in lines if line.startswith("| ")][1:]
    assert [name for name, *_ in rows if not name.startswith("-")] == list(SWITCHES)
