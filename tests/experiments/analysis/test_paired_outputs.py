from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.analysis.paired_outputs import (
    ROUNDING_NATS,
    DifferentItems,
    compare,
    compare_items,
    read_items,
    scored,
)
from runtime_matrix.experiments.records.item import Item
from runtime_matrix.experiments.records.schema import Entry, EntryStatus, HeldWeights, Load, Record, to_plain
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.shares import mcnemar_mid_p
from tests.experiments.recorded import make_record


def choice(number: int, logprobs: Sequence[float] = (-1.0, -9.0), answer: int = 0) -> Item:
    predicted = max(range(len(logprobs)), key=logprobs.__getitem__)
    return Item(
        id=f"q{number}",
        answer=answer,
        predicted=predicted,
        is_right=predicted == answer,
        worth=predicted == answer,
        logprobs=list(logprobs),
    )


def choices(n: int, wrong: Sequence[int] = ()) -> list[Item]:
    return [choice(number, (-9.0, -1.0) if number in wrong else (-1.0, -9.0)) for number in range(n)]


def completion(number: int, ids: Sequence[int], is_right: bool = True, sample: int = 0) -> Item:
    text = " ".join(map(str, ids))
    return Item(id=f"p{number}", sample=sample, prompt="?", text=text, ids=list(ids), is_right=is_right, worth=is_right)


def window(number: int, logprob: float, tokens: int = 10) -> Item:
    return Item(window=number, tokens=tokens, logprob=logprob)


def record(folder: Path, items: dict[str, list[Item]], status: EntryStatus = "ok", weights: str = "full") -> Record:
    folder.mkdir(exist_ok=True)
    for name, found in items.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(to_plain(item)) + "\n" for item in found))
    entries = [Entry(benchmark=name, items_file=f"{name}.jsonl", status=status) for name in items]
    made = make_record(folder.name)
    return replace(made, runtime=replace(made.runtime, weights=weights), benchmarks=entries)


def estimate(interval: Interval | None) -> float:
    assert interval is not None
    return interval.estimate


def test_no_flip_in_200_items_leaves_1_8_points_open() -> None:
    diff = compare_items("multiple_choice", choices(200), choices(200), "float32")
    assert (diff.items, diff.score) == (200, "is_right")
    assert (diff.right_to_wrong, diff.wrong_to_right, diff.p_value) == (0, 0, 1.0)
    assert diff.flips is not None
    assert diff.flips.estimate == diff.flips.low == 0
    assert diff.flips.high == pytest.approx(0.0183, abs=1e-4)  # 1 - 0.025 ** (1 / 200)
    assert diff.score_difference is not None
    assert diff.score_difference.low < -0.018
    assert diff.max_logprob_difference == 0


def test_flips_are_counted_in_both_directions() -> None:
    diff = compare_items("multiple_choice", choices(100, range(2, 10)), choices(100, range(3)), "float32")
    assert (diff.right_to_wrong, diff.wrong_to_right) == (7, 2)
    assert diff.flips is not None
    assert diff.flips.estimate == 0.09
    assert diff.flips.low < 0.09 < diff.flips.high
    assert diff.p_value == pytest.approx(mcnemar_mid_p(7, 2))
    assert estimate(diff.score_difference) == pytest.approx(-0.05)
    assert estimate(diff.right_choice_probability_difference) == pytest.approx(-0.05, abs=1e-3)


def test_an_answer_changes_without_a_flip_from_wrong_to_wrong() -> None:
    mine = [choice(0, (-5.0, -1.0, -2.0)), choice(1, (-1.0, -5.0, -5.0))]
    theirs = [choice(0, (-5.0, -2.0, -1.0)), choice(1, (-1.0, -5.0, -5.0))]
    diff = compare_items("multiple_choice", mine, theirs, None)
    assert estimate(diff.changed_answers) == 0.5
    assert estimate(diff.flips) == 0
    assert diff.max_logprob_difference == 1.0


@pytest.mark.parametrize("dtype", sorted(ROUNDING_NATS))
def test_an_answer_changed_beyond_rounding_is_suspicious(dtype: str) -> None:
    reach = 2 * ROUNDING_NATS[dtype]
    theirs = [choice(0, (-1.0, -1 - 0.9 * reach)), choice(1, (-1.0, -1 - 1.1 * reach)), choice(2)]
    mine = [choice(0, (-3.0, -1.0)), choice(1, (-3.0, -1.0)), choice(2)]
    assert compare_items("multiple_choice", mine, theirs, dtype).suspicious_items == ["q1"]


def test_other_weights_have_no_suspicious_items(tmp_path: Path) -> None:
    theirs = record(tmp_path / "full", {"multiple_choice": choices(4)})
    mine = record(tmp_path / "quantized", {"multiple_choice": choices(4, [1])}, weights="int8")
    diff = compare(mine, theirs, tmp_path / "quantized", tmp_path / "full").benchmarks["multiple_choice"]
    assert diff.right_to_wrong == 1
    assert diff.suspicious_items is None
    assert "suspicious_items" not in to_plain(diff)
    same_weights = compare(
        replace(mine, runtime=theirs.runtime), theirs, tmp_path / "quantized", tmp_path / "full"
    ).benchmarks
    assert same_weights["multiple_choice"].suspicious_items == ["q1"]


@pytest.mark.parametrize(("keeps_values", "suspicious"), [(True, ["q1"]), (False, None)])
def test_suspicious_items_depend_on_the_declared_values_instead_of_the_name(
    tmp_path: Path, keeps_values: bool, suspicious: list[str] | None
) -> None:
    theirs = record(tmp_path / "full", {"multiple_choice": choices(4)})
    mine = record(tmp_path / "own", {"multiple_choice": choices(4, [1])}, weights="own")
    held = HeldWeights(form="dense", keeps_values=keeps_values, is_whole=True)
    load = Load(phases_s={}, dtype="float32", device="cpu", held=held)
    diff = compare(replace(mine, load=load), theirs, tmp_path / "own", tmp_path / "full")
    assert diff.benchmarks["multiple_choice"].suspicious_items == suspicious


def test_p_values_are_holm_s_over_the_benchmarks(tmp_path: Path) -> None:
    texts = [completion(number, [number]) for number in range(40)]
    worse = [completion(number, [number], is_right=number > 7) for number in range(40)]
    windows = [window(number, -float(number)) for number in range(4)]
    theirs = record(tmp_path / "a", {"multiple_choice": choices(40), "code": texts, "perplexity": windows})
    mine = record(tmp_path / "b", {"multiple_choice": choices(40, [1, 2]), "code": worse, "perplexity": windows})
    diffs = compare(mine, theirs, tmp_path / "b", tmp_path / "a").benchmarks
    assert diffs["code"].p_value == pytest.approx(mcnemar_mid_p(8, 0))
    assert diffs["code"].p_value_holm == pytest.approx(2 * mcnemar_mid_p(8, 0))
    assert diffs["multiple_choice"].p_value_holm == pytest.approx(mcnemar_mid_p(2, 0))
    assert diffs["perplexity"].p_value_holm is None
    assert "p_value_holm" not in to_plain(diffs["perplexity"])


def test_only_benchmarks_that_both_cells_finished_are_compared(tmp_path: Path) -> None:
    code, perplexity = {"code": [completion(0, [1])]}, {"perplexity": [window(0, -1.0)]}
    theirs, mine = record(tmp_path, code | perplexity), record(tmp_path, code)
    failed = record(tmp_path, perplexity, status="failed").benchmarks
    entries = [*mine.benchmarks, *failed, Entry(benchmark="latency", status="ok")]
    assert list(compare(replace(mine, benchmarks=entries), theirs, tmp_path, tmp_path).benchmarks) == ["code"]


def test_fields_that_are_not_compared_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"id": "q", "is_right": 1, "subject": {"deep": [1]}}\n')
    assert read_items(tmp_path / "items.jsonl", "code") == [Item(id="q", is_right=1.0, worth=1.0)]


def test_texts_diverge_at_the_first_token_that_differs() -> None:
    theirs = [completion(number, [1, 2, 3, 4]) for number in range(4)]
    mine = [completion(0, [1, 2, 3, 4]), completion(1, [1, 9]), completion(2, [1, 2, 3]), completion(3, [1, 2, 9, 4])]
    diff = compare_items("code", mine, theirs, "float32")
    assert estimate(diff.same_texts) == 0.25
    assert diff.different_items == ["p1", "p2", "p3"]
    assert diff.first_divergence_tokens_p50 == 2
    assert compare_items("code", theirs, theirs, "float32").first_divergence_tokens_p50 is None


def test_an_empty_text_diverges_at_once() -> None:
    diff = compare_items("code", [completion(0, [])], [completion(0, [1, 2])], "float32")
    assert diff.first_divergence_tokens_p50 == 0


def test_equal_texts_have_no_divergence() -> None:
    given = [replace(completion(number, []), ids=None) for number in range(2)]
    diff = compare_items("code", given, given, "float32")
    assert estimate(diff.same_texts) == 1
    assert diff.first_divergence_tokens_p50 is None


def test_the_ratio_of_perplexities_is_that_of_the_tokens() -> None:
    theirs = [window(0, -20.0, 10), window(1, -60.0, 30), window(2, -25.0, 10)]
    mine = [window(0, -21.0, 10), window(1, -63.5, 30), window(2, -26.0, 10)]
    ratio = compare_items("perplexity", mine, theirs, "float32").perplexity_ratio
    assert ratio is not None
    assert ratio.estimate == pytest.approx(math.exp((110.5 - 105) / 50))
    assert ratio.low < ratio.estimate < ratio.high
    assert compare_items("perplexity", mine[:1], theirs[:1], "float32").perplexity_ratio is None


def test_other_items_are_not_compared() -> None:
    with pytest.raises(DifferentItems, match=r"multiple_choice: .*\(3 and 2\)"):
        compare_items("multiple_choice", choices(3), choices(2), "float32")
    with pytest.raises(DifferentItems, match="code"):
        compare_items("code", [completion(0, [1])], [replace(completion(0, [1]), prompt="another")], "float32")
    with pytest.raises(DifferentItems, match="multiple_choice"):
        compare_items("multiple_choice", [choice(0)], [choice(0, answer=1)], "float32")
    with pytest.raises(DifferentItems, match="perplexity"):
        compare_items("perplexity", [window(0, -1.0)], [window(1, -1.0)], "float32")


def test_overconfidence_is_a_calibration_error() -> None:
    sure, unsure = (-0.01, math.log(1 - math.exp(-0.01))), (math.log(0.55), math.log(0.45))
    mine = [choice(number, sure, answer=number % 2) for number in range(20)]
    theirs = [choice(number, unsure, answer=number % 2) for number in range(20)]
    diff = compare_items("multiple_choice", mine, theirs, "float32")
    assert diff.calibration_error == pytest.approx(math.exp(-0.01) - 0.5)
    assert diff.reference_calibration_error == pytest.approx(0.05)
    assert diff.calibration_error_difference == pytest.approx(math.exp(-0.01) - 0.55)


def test_samples_share_the_cluster_of_their_problem() -> None:
    found = scored("code", [completion(0, [1], sample=sample, is_right=sample == 1) for sample in range(2)])
    assert (found.ids, found.clusters, found.scores) == (["p0", "p0/1"], ["p0", "p0"], [0.0, 1.0])
    assert found.probabilities is None


def test_questions_about_one_passage_share_a_cluster_and_are_scored_by_f1() -> None:
    items = [Item(id=f"q{number}", cluster=7, worth=0.5, is_right=False) for number in range(2)]
    found = scored("extractive_qa", items)
    assert (found.clusters, found.scores) == ([7, 7], [0.5, 0.5])


def test_the_score_of_choices_has_the_probability_of_the_right_one() -> None:
    found = scored("multiple_choice", [choice(0, (math.log(0.2), math.log(0.3)), answer=1)])
    assert found.scores == [1.0]
    assert found.probabilities == pytest.approx([0.6])


def test_windows_are_weighted_by_their_tokens() -> None:
    found = scored("perplexity", [window(0, -20.0, 10), window(1, -90.0, 30)])
    assert sum(found.scores) / 2 == pytest.approx(-110 / 40)
    assert found.ids == ["0", "1"]


def test_a_near_tie_after_dividing_by_length_is_not_suspicious() -> None:
    """Choices of 1 and 2 bytes: the raw log-probabilities are far apart, what is compared is not."""
    near = Item(id="q", answer=0, predicted=0, is_right=True, worth=True, logprobs=[-10.0, -20.00001], lengths=[1, 2])
    other = replace(near, predicted=1, is_right=False, logprobs=[-10.00001, -20.0])
    assert compare_items("multiple_choice", [other] * 2, [near] * 2, "float32").suspicious_items == []


def test_of_several_grid_points_the_first_is_compared(tmp_path: Path) -> None:
    theirs = record(tmp_path / "a", {"code": [completion(0, [1]), completion(1, [1])]})
    mine = record(tmp_path / "b", {"code": [completion(0, [1]), completion(1, [2])]})
    further = Entry(benchmark="code", case="long", items_file="further.jsonl", status="ok")
    for folder, number in (("a", 0), ("b", 9)):
        (tmp_path / folder / "further.jsonl").write_text(json.dumps(to_plain(completion(number, [1]))) + "\n")
    candidate, reference = (replace(made, benchmarks=[*made.benchmarks, further]) for made in (mine, theirs))
    diff = compare(candidate, reference, tmp_path / "b", tmp_path / "a")
    assert not diff.reasons
    assert diff.benchmarks["code"].different_items == ["p1"]
