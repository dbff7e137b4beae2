from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.comparison.answers import ROUNDING_NATS, DifferentItems, compare, compare_items, scored
from runtime_matrix.experiments.measurement.shares import mcnemar_mid_p

Item = dict[str, Any]


def choice(number: int, logprobs: Sequence[float] = (-1.0, -9.0), answer: int = 0) -> Item:
    predicted = max(range(len(logprobs)), key=logprobs.__getitem__)
    return {
        "id": f"q{number}",
        "answer": answer,
        "predicted": predicted,
        "is_right": predicted == answer,
        "logprobs": list(logprobs),
    }


def choices(n: int, wrong: Sequence[int] = ()) -> list[Item]:
    return [choice(number, (-9.0, -1.0) if number in wrong else (-1.0, -9.0)) for number in range(n)]


def completion(number: int, ids: Sequence[int], is_right: bool = True, sample: int = 0) -> Item:
    text = " ".join(map(str, ids))
    return {"id": f"p{number}", "sample": sample, "prompt": "?", "text": text, "ids": ids, "is_right": is_right}


def window(number: int, logprob: float, tokens: int = 10) -> Item:
    return {"window": number, "tokens": tokens, "logprob": logprob}


def record(folder: Path, items: dict[str, list[Item]], status: str = "ok", weights: str = "full") -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    for name, found in items.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in found))
    entries = [{"benchmark": name, "items_file": f"{name}.jsonl", "status": status} for name in items]
    return {"runtime": {"weights": weights, "dtype": "float32"}, "benchmarks": entries}


def test_no_flip_in_200_items_leaves_1_8_points_open() -> None:
    found = compare_items("multiple_choice", choices(200), choices(200), "float32")
    assert (found["items"], found["score"]) == (200, "is_right")
    assert (found["right_to_wrong"], found["wrong_to_right"], found["p_value"]) == (0, 0, 1.0)
    assert found["flips"]["estimate"] == found["flips"]["low"] == 0
    assert found["flips"]["high"] == pytest.approx(0.0183, abs=1e-4)  # 1 - 0.025 ** (1 / 200)
    assert found["score_difference"]["low"] < -0.018
    assert found["max_logprob_difference"] == 0


def test_flips_are_counted_in_both_directions() -> None:
    found = compare_items("multiple_choice", choices(100, range(2, 10)), choices(100, range(3)), "float32")
    assert (found["right_to_wrong"], found["wrong_to_right"]) == (7, 2)
    assert found["flips"]["estimate"] == 0.09
    assert found["flips"]["low"] < 0.09 < found["flips"]["high"]
    assert found["p_value"] == pytest.approx(mcnemar_mid_p(7, 2))
    assert found["score_difference"]["estimate"] == pytest.approx(-0.05)
    assert found["right_choice_probability_difference"]["estimate"] == pytest.approx(-0.05, abs=1e-3)


def test_an_answer_changes_without_a_flip_from_wrong_to_wrong() -> None:
    mine = [choice(0, (-5.0, -1.0, -2.0)), choice(1, (-1.0, -5.0, -5.0))]
    theirs = [choice(0, (-5.0, -2.0, -1.0)), choice(1, (-1.0, -5.0, -5.0))]
    found = compare_items("multiple_choice", mine, theirs, None)
    assert found["changed_answers"]["estimate"] == 0.5
    assert found["flips"]["estimate"] == 0
    assert found["max_logprob_difference"] == 1.0


@pytest.mark.parametrize("dtype", sorted(ROUNDING_NATS))
def test_an_answer_changed_beyond_rounding_is_suspicious(dtype: str) -> None:
    reach = 2 * ROUNDING_NATS[dtype]
    theirs = [choice(0, (-1.0, -1 - 0.9 * reach)), choice(1, (-1.0, -1 - 1.1 * reach)), choice(2)]
    mine = [choice(0, (-3.0, -1.0)), choice(1, (-3.0, -1.0)), choice(2)]
    assert compare_items("multiple_choice", mine, theirs, dtype)["suspicious_items"] == ["q1"]


def test_nothing_is_suspicious_where_the_weights_differ(tmp_path: Path) -> None:
    theirs = record(tmp_path / "full", {"multiple_choice": choices(4)})
    mine = record(tmp_path / "quantized", {"multiple_choice": choices(4, [1])}, weights="int8")
    found = compare(mine, theirs, tmp_path / "quantized", tmp_path / "full")["benchmarks"]["multiple_choice"]
    assert found["right_to_wrong"] == 1
    assert "suspicious_items" not in found
    same_weights = compare(mine | {"runtime": theirs["runtime"]}, theirs, tmp_path / "quantized", tmp_path / "full")[
        "benchmarks"
    ]
    assert same_weights["multiple_choice"]["suspicious_items"] == ["q1"]


def test_p_values_are_holm_s_over_the_benchmarks(tmp_path: Path) -> None:
    texts = [completion(number, [number]) for number in range(40)]
    worse = [completion(number, [number], is_right=number > 7) for number in range(40)]
    windows = [window(number, -float(number)) for number in range(4)]
    theirs = record(tmp_path / "a", {"multiple_choice": choices(40), "code": texts, "perplexity": windows})
    mine = record(tmp_path / "b", {"multiple_choice": choices(40, [1, 2]), "code": worse, "perplexity": windows})
    found = compare(mine, theirs, tmp_path / "b", tmp_path / "a")["benchmarks"]
    assert found["code"]["p_value"] == pytest.approx(mcnemar_mid_p(8, 0))
    assert found["code"]["p_value_holm"] == pytest.approx(2 * found["code"]["p_value"])
    assert found["multiple_choice"]["p_value_holm"] == pytest.approx(mcnemar_mid_p(2, 0))
    assert "p_value_holm" not in found["perplexity"]


def test_only_what_both_cells_finished_is_compared(tmp_path: Path) -> None:
    one, failed = {"code": [completion(0, [1])]}, {"perplexity": [window(0, -1.0)]}
    theirs, mine = record(tmp_path, one | failed), record(tmp_path, one)
    mine["benchmarks"] += record(tmp_path, failed, status="failed")["benchmarks"]
    mine["benchmarks"].append({"benchmark": "latency", "items_file": None, "status": "ok"})
    assert list(compare(mine, theirs, tmp_path, tmp_path)["benchmarks"]) == ["code"]


def test_texts_diverge_at_the_first_token_that_differs() -> None:
    theirs = [completion(number, [1, 2, 3, 4]) for number in range(4)]
    mine = [completion(0, [1, 2, 3, 4]), completion(1, [1, 9]), completion(2, [1, 2, 3]), completion(3, [1, 2, 9, 4])]
    found = compare_items("code", mine, theirs, "float32")
    assert found["same_texts"]["estimate"] == 0.25
    assert found["different_items"] == ["p1", "p2", "p3"]
    assert found["first_divergence_tokens_p50"] == 2
    assert compare_items("code", theirs, theirs, "float32")["first_divergence_tokens_p50"] is None


def test_texts_that_nobody_generated_have_no_divergence() -> None:
    given = [{**completion(number, []), "ids": None} for number in range(2)]
    found = compare_items("code", given, given, "float32")
    assert found["same_texts"]["estimate"] == 1
    assert found["first_divergence_tokens_p50"] is None


def test_the_ratio_of_perplexities_is_that_of_the_tokens() -> None:
    theirs = [window(0, -20.0, 10), window(1, -60.0, 30), window(2, -25.0, 10)]
    mine = [window(0, -21.0, 10), window(1, -63.5, 30), window(2, -26.0, 10)]
    found = compare_items("perplexity", mine, theirs, "float32")["perplexity_ratio"]
    assert found["estimate"] == pytest.approx(math.exp((110.5 - 105) / 50))
    assert found["low"] < found["estimate"] < found["high"]
    assert compare_items("perplexity", mine[:1], theirs[:1], "float32")["perplexity_ratio"] is None


def test_other_items_are_not_compared() -> None:
    with pytest.raises(DifferentItems, match=r"multiple_choice: .*\(3 and 2\)"):
        compare_items("multiple_choice", choices(3), choices(2), "float32")
    with pytest.raises(DifferentItems, match="code"):
        compare_items("code", [completion(0, [1])], [completion(0, [1]) | {"prompt": "another"}], "float32")
    with pytest.raises(DifferentItems, match="multiple_choice"):
        compare_items("multiple_choice", [choice(0)], [choice(0, answer=1)], "float32")
    with pytest.raises(DifferentItems, match="perplexity"):
        compare_items("perplexity", [window(0, -1.0)], [window(1, -1.0)], "float32")


def test_confidence_that_the_answers_do_not_earn_is_a_calibration_error() -> None:
    sure, unsure = (-0.01, math.log(1 - math.exp(-0.01))), (math.log(0.55), math.log(0.45))
    mine = [choice(number, sure, answer=number % 2) for number in range(20)]
    theirs = [choice(number, unsure, answer=number % 2) for number in range(20)]
    found = compare_items("multiple_choice", mine, theirs, "float32")
    assert found["calibration_error"] == pytest.approx(math.exp(-0.01) - 0.5)
    assert found["reference_calibration_error"] == pytest.approx(0.05)
    assert found["calibration_error_difference"] == pytest.approx(math.exp(-0.01) - 0.55)


def test_samples_share_the_cluster_of_their_problem() -> None:
    found = scored("code", [completion(0, [1], sample=sample, is_right=sample == 1) for sample in range(2)])
    assert (found.ids, found.clusters, found.scores) == (["p0", "p0/1"], ["p0", "p0"], [0.0, 1.0])
    assert found.probabilities is None


def test_questions_about_one_passage_share_a_cluster_and_are_scored_by_f1() -> None:
    items = [{"id": f"q{number}", "cluster": 7, "f1": 0.5, "is_right": False} for number in range(2)]
    found = scored("extractive_qa", items)
    assert (found.clusters, found.scores) == ([7, 7], [0.5, 0.5])


def test_choices_are_worth_the_probability_of_the_right_one() -> None:
    found = scored("multiple_choice", [choice(0, (math.log(0.2), math.log(0.3)), answer=1)])
    assert found.scores == [1.0]
    assert found.probabilities == pytest.approx([0.6])


def test_windows_are_worth_their_tokens() -> None:
    found = scored("perplexity", [window(0, -20.0, 10), window(1, -90.0, 30)])
    assert sum(found.scores) / 2 == pytest.approx(-110 / 40)
    assert found.ids == ["0", "1"]


def test_a_near_tie_after_dividing_by_length_is_not_suspicious() -> None:
    """Choices of 1 and 2 bytes: the raw log-probabilities are far apart, what is compared is not."""
    near = {"id": "q", "answer": 0, "predicted": 0, "is_right": True, "logprobs": [-10.0, -20.00001], "lengths": [1, 2]}
    other = near | {"predicted": 1, "is_right": False, "logprobs": [-10.00001, -20.0]}
    assert compare_items("multiple_choice", [other] * 2, [near] * 2, "float32")["suspicious_items"] == []
