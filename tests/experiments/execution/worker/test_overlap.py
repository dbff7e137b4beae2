"""The bundled data against what its model has seen; data of one's own against a calibration text of one's own."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.execution.worker.overlap import overlap_of
from runtime_matrix.experiments.records.schema import OverlapShare
from runtime_matrix.experiments.tasks import overlap

TEXTS = "benchmark=[perplexity,multiple_choice,code,extractive_qa,summarization]"


def cell(*words: str) -> Cell:
    return plan(compose(list(words)), "a test")


def test_the_bundled_benchmarks_against_calibration_and_training() -> None:
    asked = cell(TEXTS)
    start = time.process_time()
    found = overlap_of(asked).benchmarks
    assert time.process_time() - start < 1
    assert set(found) == {
        *("perplexity", "multiple_choice", "few_shot_examples", "code", "extractive_qa", "summarization")
    }
    calibration = {name: overlap.calibration for name, overlap in found.items()}
    training = {name: overlap.training for name, overlap in found.items()}
    assert all(share is not None and 0 <= share <= 1 for share in (*calibration.values(), *training.values()))
    assert calibration["extractive_qa"] == 0
    assert calibration["code"]  # programs are put together from few steps


def test_the_committed_shares_are_of_the_committed_model() -> None:
    assert overlap.training_shares(cell("benchmark=[latency]").facts.digest)
    assert overlap.training_shares("another model") == {}


def test_overlap_of_custom_data(tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(40)]
    (tmp_path / "calibration.txt").write_text(" ".join(words))
    (tmp_path / "text.txt").write_text(" ".join(words[10:30]) + "\n\n" + " ".join(reversed(words)))
    asked = cell(
        "benchmark=[perplexity]",
        f"benchmark.perplexity.data={tmp_path / 'text.txt'}",
        f"calibration.data={tmp_path / 'calibration.txt'}",
    )
    found = overlap_of(asked)
    assert found.benchmarks == {"perplexity": OverlapShare(items=2, calibration=0.5, training=None)}
    assert found.words == 13


@pytest.mark.parametrize("model", ["bundled", "random"])
def test_without_benchmarks_of_text_there_is_no_overlap(model: str) -> None:
    assert overlap_of(cell("benchmark=[latency]", f"model={model}")).benchmarks == {}
