"""Accuracy: what is lost, what so many items leave open, and the levels of the bounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from scipy import stats

from runtime_matrix.experiments.analysis.paired_outputs import read_items
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.gates.axes.accuracy import BaselineScores, loss_verdict
from runtime_matrix.experiments.gates.findings import Measured
from runtime_matrix.experiments.statistics.paired import loss
from tests.experiments.gates.judged import baseline, found, with_entry, write_items, write_lines


def test_lost_answers_fail(measured: Measured, tmp_path: Path) -> None:
    write_items(tmp_path / "mine", lost=60)
    seen = found(measured)["reference.accuracy.multiple_choice"]
    assert seen.verdict == "fail"
    assert "loses 6 points" in seen.message
    assert "items-multiple_choice.jsonl" in seen.message


def test_with_few_items_the_advice_is_the_number_that_would_decide(measured: Measured, tmp_path: Path) -> None:
    for name in ("mine", "theirs"):
        write_items(tmp_path / name, n=100)
    seen = found(measured)["reference.accuracy.multiple_choice"]
    assert seen.n == 100
    assert seen.verdict == "inconclusive"  # nothing lost in 100 items leaves more than three points open
    assert "about 177 items like these would decide" in seen.message


def test_the_right_choice_s_probability_never_decides(measured: Measured, tmp_path: Path) -> None:
    """Answers are lost by near ties, where the probability hardly moves: by it, a third of wrong runtimes passed."""
    for name, wrong in (("mine", range(15)), ("theirs", range(15, 30))):
        path = write_items(tmp_path / name, n=300) / "items-multiple_choice.jsonl"
        items = [
            structs.replace(item, is_right=index not in wrong, worth=None)
            for index, item in enumerate(read_items(path, "multiple_choice"))
        ]
        write_lines(path, items)
    seen = found(measured)["reference.accuracy.multiple_choice"]
    assert seen.verdict == "inconclusive"
    assert "the right choice's probability fell by 0 points" in seen.message


@pytest.mark.parametrize("n", [400, 1060])
@pytest.mark.parametrize("true_loss", [0.03, 0.036])
def test_a_loss_beyond_the_margin_passes_within_the_error_rate(n: int, true_loss: float) -> None:
    drawn, level, passes, runs = np.random.default_rng(0), 1 - 0.05 / 7, 0, 1000
    for _ in range(runs):
        fates = drawn.choice([1.0, -1.0, 0.0], n, p=[true_loss + 0.01, 0.01, 0.99 - true_loss - 0.01])
        reference = np.where(fates == 0, 1.0, fates == 1)
        seen = loss((reference - fates).tolist(), reference.tolist(), None, 2 * level - 1)
        passes += loss_verdict(seen, 0.03) == "pass"
    assert passes <= stats.binom.ppf(0.999, runs, 1 - level)  # at the margin itself, 1 % of 1,000 may be chance


def test_a_benchmark_that_did_not_run_never_passes(measured: Measured) -> None:
    skipped = with_entry(measured, "multiple_choice", status="skipped", reason="the model has no tokenizer")
    seen = found(skipped)["reference.accuracy.multiple_choice"]
    assert seen.verdict == "inconclusive"
    assert "the model has no tokenizer" in seen.message


def test_items_that_differ_from_the_baseline_s_are_a_mistake(measured: Measured) -> None:
    kept = {"multiple_choice": BaselineScores(scores={"q0": 1.0}, probabilities={"q0": 0.7})}
    with pytest.raises(UserError, match="other items of multiple_choice"):
        found(replace(measured, baseline=baseline(accuracy=kept)))
