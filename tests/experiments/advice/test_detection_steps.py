"""What is suggested after detection follows from its figures: gains, intervals, and in-sample beside held out."""

from __future__ import annotations

import shlex
from typing import Any

from runtime_matrix.experiments.advice.choose import Constraints
from runtime_matrix.experiments.advice.detection_steps import ADVISED
from runtime_matrix.experiments.advice.next_steps import next_steps
from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.detector.techniques import techniques
from runtime_matrix.experiments.records.row import Row
from tests.experiments.recorded import changed_row, make_record, result

FINE = {
    "detection_auc": 0.7,
    "detection_auc_low": 0.68,
    "detection_auc_high": 0.72,
    "detection_auc_in_sample": 0.71,
    "detection_responses": 900,
    "detection_length_auc": 0.55,
    "detection_nll_auc": 0.46,
}
RUN = "python -m experiments.run runtime=eager benchmark=[detection] benchmark.detection.data=D hw=cpu"


def cell(command: str = RUN, /, **figures: float | None) -> Row:
    """Return a cell whose detection, and nothing else, was measured."""
    (row,) = rows([result(make_record("eager"))])
    nothing: dict[str, Any] = dict.fromkeys(row.figures)
    return changed_row(row, **{**nothing, **FINE, **figures}, command=command)


def gain(name: str, low: float, high: float) -> dict[str, Any]:
    key = next(technique.key for technique in ADVISED if technique.name == name)
    return {key: (low + high) / 2, f"{key}_low": low, f"{key}_high": high}


def steps(*cells: Row, goal: str = "memory", min_accuracy: float | None = None) -> dict[str, str]:
    """Return the words of each suggested command by its reason."""
    found = next_steps(cells, Constraints(goal, min_accuracy=min_accuracy))
    return {step.why: step.command.removeprefix("python -m experiments.run ") for step in found}


def of_accuracy(*cells: Row, min_accuracy: float | None = None) -> dict[str, str]:
    found = steps(*cells, min_accuracy=min_accuracy)
    return {why: words for why, words in found.items() if "max_tokens" not in words and "-m" not in words.split()}


def test_nothing_is_suggested_for_an_auc_that_is_high_and_well_known() -> None:
    assert of_accuracy(cell()) == {}


def test_an_auc_that_may_be_chance_suggests_the_branch_in_its_order() -> None:
    chance: dict[str, Any] = {"detection_auc": 0.52, "detection_auc_low": 0.49, "detection_auc_high": 0.54}
    found = of_accuracy(cell(**chance, detection_auc_in_sample=0.54))
    words = [shlex.split(text)[-1].removeprefix("benchmark.detection.") for text in found.values()]
    assert words == ["threshold=f1", "heads=mutual_information", "search=grid", "ensemble=5"]
    first, *others = found
    assert first.endswith("not measured here; the AUC of 0.52 [0.49, 0.54] may be chance")
    assert all(why.endswith(": not measured here") for why in others)
    assert all(text.startswith("benchmark.detection.data=D hw=cpu 'benchmark=[detection]' ") for text in found.values())


def test_a_baseline_that_is_as_good_is_a_weakness() -> None:
    (first, *_) = of_accuracy(cell(detection_length_auc=0.7))
    assert first.endswith("the AUC of 0.70 [0.68, 0.72] is not above the 0.70 of length alone")


def test_a_missed_constraint_on_scores_suggests_the_branch() -> None:
    found = of_accuracy(cell(), min_accuracy=1.5)
    assert "the threshold with the best F1 instead of 0.5: not measured here" in found
    assert next(iter(found)) == "more bits"


def test_a_shown_gain_is_suggested_and_one_that_is_not_shown_is_not() -> None:
    gains: dict[str, Any] = {**gain("threshold by F1", 1.05, 1.25), **gain("grid search", 0.9, 1.02)}
    found = of_accuracy(cell(**gains, detection_auc_low=0.5))
    whys = [why.partition(":")[0] for why in found]
    assert "a grid search over heads, layers and weights" not in whys
    assert "the threshold with the best F1 instead of 0.5: 1.15× [1.05, 1.25] the F1 of held-out responses" in found


def test_gains_of_another_cell_count() -> None:
    (why,) = of_accuracy(cell(), cell(detection_auc=None, **gain("ensemble of 5", 1.01, 1.03)))
    assert why == "an ensemble of five head selections: 1.02× [1.01, 1.03] the AUC of held-out responses"


def test_a_wide_interval_asks_for_more_responses() -> None:
    wide: dict[str, Any] = {"detection_auc_low": 0.64, "detection_auc_high": 0.76, "detection_responses": 200}
    (why,) = of_accuracy(cell(**wide))
    assert why == "more responses: about 800 instead of 200 would give the AUC to ± 0.03"
    (words,) = of_accuracy(cell(**wide)).values()
    assert words == "hw=cpu 'benchmark=[detection]' benchmark.detection.data=FOLDER"
    (words,) = of_accuracy(cell(f"{RUN} sample=200", **wide)).values()
    assert words.endswith("benchmark.detection.limit=null")


def test_overfitted_heads_suggest_fewer_and_no_grid() -> None:
    found = of_accuracy(cell(detection_auc_in_sample=0.9, detection_auc_low=0.5))
    first, *others = found
    assert first == "fewer heads, no grid: AUC 0.90 in-sample is 0.70 [0.50, 0.72] on held-out responses"
    assert found[first].endswith(
        "top_heads=1 benchmark.detection.top_layers=1 benchmark.detection.search=none benchmark.detection.ensemble=1"
    )
    assert [why.partition(":")[0] for why in others] == [
        "the threshold with the best F1 instead of 0.5",
        "more responses",
    ]


def test_what_was_tried_is_not_suggested_again() -> None:
    weak: dict[str, Any] = {"detection_auc_low": 0.5, "detection_auc_high": 0.72, "detection_responses": None}
    tried = cell(f"{RUN} benchmark.detection.search=grid", **weak)
    assert not any("grid" in words for words in of_accuracy(cell(**weak), tried).values())


def test_memory_is_saved_by_fewer_bits_then_shorter_contexts_then_offloading() -> None:
    words = list(steps(cell()).values())
    kinds = [next(kind for kind in ("gptq", "nf4", "max_tokens=512", "offload") if kind in text) for text in words]
    assert kinds == ["gptq", "nf4", "max_tokens=512", "offload"]
    assert all("benchmark=[detection]" in text for text in words)


def test_speed_is_gained_by_batches_where_they_were_off_and_by_half_the_tokens() -> None:
    slow = cell(f"{RUN} scoring.batch=false benchmark.detection.max_tokens=400")
    first, second, *others = steps(slow, goal="latency").items()
    assert first[0] == "responses in batches by length"
    assert "scoring.batch=true" in first[1]
    assert second[1].endswith("benchmark.detection.max_tokens=200")
    assert not any("onnxruntime" in text or "llama" in text for _, text in others)  # they were not measured
    assert "responses in batches by length" not in steps(cell(), goal="latency")


def test_each_advised_technique_is_one_of_the_library_s() -> None:
    known = {(technique.name, technique.figure) for technique in techniques(["(0, 0)"], seed=0)}
    assert {(technique.name, technique.figure) for technique in ADVISED} <= known
    assert ADVISED[0].key == "technique_threshold_by_f1_f1_ratio"
