"""Free-form answers: the rules that compare texts, real data, and items that two cells are compared by."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.tasks import free_form
from runtime_matrix.experiments.tasks.free_form import TASK, FreeFormConfig, is_match, last_number, load
from runtime_matrix.experiments.tasks.language import ENGLISH, UNICODE


@pytest.mark.parametrize(
    ("match", "text", "answer", "is_right"),
    [
        ("exact", " Paris\n", "Paris", True),
        ("exact", "paris", "Paris", False),
        ("normalized", "the Paris!", "Paris", True),
        ("normalized", "in Paris", "Paris", False),
        ("contains", "It lies in New York City.", "New York", True),
        ("contains", "It lies in Newer York.", "New York", False),
        ("contains", "Yorkshire", "York", False),
        ("regex", "on 3 May 1889", r"\b1\d{3}\b", True),
        ("regex", "on 3 May", r"\b1\d{3}\b", False),
        ("number", "2 and 3 make 5.", "5", True),
        ("number", "5, of 2 and 3", "5", False),
        ("number", "It costs $1,250.00 a day", "#### 1250", True),
        ("number", "none", "0", False),
    ],
)
def test_each_rule_compares_in_its_own_way(match: str, text: str, answer: str, is_right: bool) -> None:
    assert is_match(text, [answer], match, ENGLISH) is is_right
    assert is_match(text, ["something else 77", answer], match, ENGLISH) is is_right


def test_words_are_those_of_the_language() -> None:
    assert is_match("北京。", ["北京"], "normalized", UNICODE)
    assert not is_match("An", ["the"], "normalized", UNICODE)  # articles are English


@pytest.mark.parametrize(
    ("text", "number"),
    [("a -3", -3), ("10-3", 3), ("(5)-3", 3), ("1,234.50,", 1234.5), ("3. ", 3), ("2,3", 3), ("=.5", 0.5), ("", None)],
)  # fmt: skip
def test_the_last_number_of_a_text(text: str, number: float | None) -> None:
    found = last_number(text)
    assert (None if found is None else float(found)) == number


def test_the_answers_of_gsm8k_are_right_and_other_numbers_wrong(data_folder: Path) -> None:
    examples = load(data_folder / "gsm8k" / "test.jsonl", None, {"prompt": "question"})
    assert len(examples) == 1319
    for example in examples:
        gold = example.answers[0].rpartition("####")[2].strip()
        assert is_match(f"so it is ${gold}.", example.answers, "number", ENGLISH)
        assert not is_match(f"of {gold} there are {int(gold.replace(',', '')) + 1}", example.answers, "number", ENGLISH)


def options(*words: str) -> FreeFormConfig:
    config: CellConfig = build(CellConfig, compose(["benchmark=[free_form]", *words]))
    chosen = config.benchmark.of(TASK)
    assert chosen is not None
    return chosen


def test_subjects_and_several_answers_are_read(tmp_path: Path) -> None:
    lines = [{"id": 7, "prompt": "p", "answer": ["a", 2], "subject": "s"}, {"prompt": "q", "answer": 0}]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    first, second = load(path)
    assert (first.id, first.answers, first.subject) == ("7", ("a", "2"), "s")
    assert (second.id, second.answers, second.subject) == ("1", ("0",), "")
    drawn = TASK.texts(replace(options(), data=str(path), sample=1))["free_form"]
    assert len(drawn) == 1


@pytest.mark.parametrize(
    ("match", "answer", "says"),
    [
        ("regex", "(", "is no regular expression"),
        ("number", "five", "has no number"),
        ("contains", "!", "has no word"),
    ],
)
def test_an_answer_that_the_rule_cannot_compare_is_refused(tmp_path: Path, match: str, answer: str, says: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"prompt": "p", "answer": answer}))
    with pytest.raises(UserError, match=rf"the answer .* of '0' {says}.* than {match}"):
        TASK.check_data(replace(options(), data=str(path), match=match))


def test_an_empty_stop_is_refused() -> None:
    with pytest.raises(UserError, match=r"benchmark\.free_form\.stop contains an empty text"):
        TASK.check(options("benchmark.free_form.stop=['']"))
    assert options("benchmark.free_form.stop=[]").stop == ()


@pytest.mark.slow
def test_two_cells_are_compared_by_the_same_sampled_items(
    run: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    words = "-m", "runtime=eager,onnxruntime_w4", "benchmark=[free_form]", "sample=24", "comparison.enabled=false"
    done = run(*words)
    assert done.returncode == 0, done.stderr
    diff, *_ = (tmp_path / "runs").glob("*onnxruntime*/output*.json")
    compared = json.loads(diff.read_text())["benchmarks"]["free_form"]
    assert compared["items"] == 24
    assert compared["score_difference"] is not None


def test_a_pattern_of_a_file_may_not_search_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_form, "_MOST_SEARCH_S", 0.05)
    with pytest.raises(UserError, match=r"the pattern '\(a\|aa\)\+\$' takes longer than 0.05 s on a text"):
        free_form.is_match("a" * 60 + "!", ["(a|aa)+$"], "regex", "english")
