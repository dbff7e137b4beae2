"""The work of switches on the bundled model: the answers are the same with a switch on and off."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from runtime_matrix.experiments import run
from runtime_matrix.experiments.validation import one_process
from tests.conftest import ROOT
from tests.in_process import call

MODEL = ROOT / "experiments" / "bundled" / "model"
PROMPTS = [[5, 6, 7, 8], [9, 10, 11]]


def answers(prompts: Sequence[Sequence[int]], monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps([str(MODEL), prompts, 4])))
    printed = io.StringIO()
    monkeypatch.setattr("sys.stdout", printed)
    one_process.main()
    found: list[list[int]] = json.loads(printed.getvalue())
    return found


def test_one_load_answers_as_a_load_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    try:
        together = answers(PROMPTS, monkeypatch)
        assert together == [answer for prompt in PROMPTS for answer in answers([prompt], monkeypatch)]
        assert all(1 <= len(answer) <= 4 for answer in together)  # fewer if the text ends
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_a_fresh_process_answers() -> None:
    assert all(1 <= len(answer) <= 4 for answer in one_process.answered(MODEL, PROMPTS, 4))


@pytest.mark.slow
def test_everything_on_and_off_gives_the_same_texts_and_verdicts(tmp_path: Path) -> None:
    small = ["benchmark.ablation.texts=8", "benchmark.ablation.pairs=1", "benchmark.ablation.only=everything"]
    done = call(run.main, ["experiment=ablation", *small, "progress=false", f"results_dir={tmp_path}"])
    assert done.returncode == 0, done.stderr
    (record,) = tmp_path.glob("*/record.json")
    (entry,) = [one for one in json.loads(record.read_text())["benchmarks"] if one["benchmark"] == "ablation"]
    assert set(entry["figures"]) == {"everything, texts", "everything, code benchmark"}
    assert all(figures["wall"] > 1 for figures in entry["figures"].values())
