"""The dialog's figures of the benchmark `detection`."""

from __future__ import annotations

from pathlib import Path

from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.reports.detection_panel import detection_figures
from tests.experiments.tasks.detecting import RuleBench, line, options, run, write_lines


def test_held_out_stands_beside_in_sample_and_baselines(tmp_path: Path) -> None:
    data = write_lines(tmp_path / "data.jsonl", (line(number, number % 3 == 0) for number in range(24)))
    entry = Entry(status="ok", **vars(run(RuleBench(), options(data=data, top_heads=1, m=0))))
    found = detection_figures([entry])
    assert found is not None
    assert found.about.startswith("24 responses from 12 sources, 8 unsupported. Held out")
    name, held_out, in_sample = found.rows[0]
    assert name == "AUC"
    assert held_out.startswith(f"{entry.figure('auc'):.3f} [")
    assert in_sample.startswith(f"{entry.figure('auc_in_sample'):.3f} [")
    assert ("AUC, negative log-likelihood", "0.500 [0.500, 0.500]", "") in found.rows
    assert found.detectors[2] == "in-sample: (0, 1)"
    assert (len(found.supported), len(found.unsupported)) == (16, 8)
    assert found.supported == sorted(found.supported)


def test_there_is_no_panel_without_figures() -> None:
    assert detection_figures([]) is None
    assert detection_figures([Entry(benchmark="detection", status="skipped", reason="no outputs")]) is None
