"""The switches of a judged evaluation give the same verdicts on and off, and a factor each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.run import main
from runtime_matrix.experiments.validation.tasks.judge_switches import JUDGE_SWITCHES
from tests.in_process import call

FAST = ("hw.threads=1", "agreement.enabled=false", "comparison.enabled=false", "monitoring=[]", "progress=false")


def run(folder: Path, *words: str) -> dict[str, dict[str, float]]:
    options = ["benchmark=[judge_switches]", *(f"benchmark.judge_switches.{word}" for word in words)]
    done = call(main, [*FAST, *options, f"results_dir={folder}"])
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*/record.json")
    (entry,) = json.loads(path.read_text())["benchmarks"]
    figures: dict[str, dict[str, float]] = entry["figures"]
    return figures


def test_calls_at_once_and_kept_replies_save_what_they_must(tmp_path: Path) -> None:
    figures = run(tmp_path, "pairs=1", "questions=16", "delay_s=0.05", "loads=0")
    assert set(figures) == set(list(JUDGE_SWITCHES)[:3])
    four, sixteen, kept = (factors["wall"] for factors in figures.values())
    assert four > 1.2  # 4 and 16 on an idle machine
    assert sixteen > 1.5
    assert kept > 1


@pytest.mark.slow
def test_every_switch_of_judging_is_measured(tmp_path: Path) -> None:
    assert set(run(tmp_path, "pairs=1", "questions=2", "delay_s=0", "loads=2")) == set(JUDGE_SWITCHES)


def test_the_experiment_composes() -> None:
    config = compose(["experiment=judge"])
    assert config["judge"]["name"] == "runtime"
    assert set(config["benchmark"]) == {"extractive_qa", "free_form", "judge_switches"}
