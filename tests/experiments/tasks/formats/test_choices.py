"""Questions with choices in the layouts of their publishers, whole and almost right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.tasks.formats.choices.question import Truths
from runtime_matrix.experiments.tasks.questions import QuestionSet, load
from tests.experiments.tasks.formats.files import (
    arc,
    arc_csv,
    arc_row,
    blimp,
    csv_text,
    json_lines,
    piqa,
    truthful,
    truthful_csv,
    vmlu,
    vnhsge,
    write,
)


def test_vmlu_has_its_letters_once_and_its_subjects_by_id(tmp_path: Path) -> None:
    items = [vmlu(28, 1, answer="B"), vmlu(41, 1, answer="D"), vmlu(28, 2, answer="C")]
    read = load(write(tmp_path / "valid.jsonl", json_lines(items)), None, 0)
    assert read.format == "vmlu"
    assert [(item.id, item.subject, item.answer) for item in read.questions] == [
        ("28-0001", "28", 1), ("28-0002", "28", 2), ("41-0001", "41", 3),
    ]  # fmt: skip
    assert read.questions[0].choices == ("Sông Đỏ", "Sông Xanh", "Sông Vàng", "A. Trắng")


def test_vmlus_test_set_has_no_answers_and_takes_its_examples_from_dev(tmp_path: Path) -> None:
    test = write(tmp_path / "test.jsonl", json_lines([vmlu(28, 1), vmlu(28, 2)]))
    with pytest.raises(UserError, match=r"has no answers, .* set benchmark\.multiple_choice\.shots=0"):
        load(test, None, 1)
    assert not load(test, None, 0).has_answers
    write(tmp_path / "dev.jsonl", json_lines([vmlu(28, 90, answer="A")]))
    read = load(test, None, 1)
    assert [example.id for example in read.shots_by_subject["28"]] == ["28-0090"]
    assert [item.id for item in read.questions] == ["28-0001", "28-0002"]
    with pytest.raises(UserError, match=r"dev\.jsonl has 1 answered examples of the subject 28, but shots=2"):
        load(test, None, 2)


def test_vnhsge_holds_its_options_in_the_question(tmp_path: Path) -> None:
    image, unknown = vnhsge(2, Image_Question="a.png"), vnhsge(3, Choice="")
    passage = vnhsge(4, Question="A. is a letter.\nWhich?\nA. one\nB. two\nC. three", Choice="A")
    read = load(write(tmp_path / "geo.json", [vnhsge(1), image, unknown, passage]), None, 0)
    first, last = read.questions
    assert (first.text, first.choices, first.answer) == (
        "Câu 1: Hồ nào lớn nhất?", ("Hồ Một", "Hồ Hai", "Hồ Ba", "-4"), 2,
    )  # fmt: skip
    assert (last.text, last.choices) == ("A. is a letter.\nWhich?", ("one", "two", "three"))
    assert (read.format, first.subject) == ("vnhsge", "Geo")
    assert read.left_out == {"needs an image": 1, "has no answer": 1}


def test_a_folder_of_vnhsge_is_one_set(tmp_path: Path) -> None:
    write(tmp_path / "History" / "a.json", [vnhsge(1, ID="MET_His_IE_2031_1")])
    write(tmp_path / "Civic Education" / "b.json", [vnhsge(1, ID="Civ_40_1"), vnhsge(2, ID="Civ_40_2")])
    read = load(tmp_path, None, 0)
    assert [item.subject for item in read.questions] == ["Civ", "Civ", "His"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ARC-Challenge-Test.jsonl", json_lines([arc(1), arc(2, "1234"), arc(3, "ABC"), arc(4, "ABCDE")])),
        ("hub.json", [arc_row(1), arc_row(2, "1234"), arc_row(3, "ABC"), arc_row(4, "ABCDE")]),
    ],
)
def test_arc_has_three_to_five_choices_with_letters_or_digits(tmp_path: Path, name: str, content: Any) -> None:
    read = load(write(tmp_path / name, content), None, 0)
    assert read.format == "arc"
    assert [len(item.choices) for item in read.questions] == [4, 4, 3, 5]
    assert {item.answer for item in read.questions} == {1}  # the label "2" is the second choice
    assert read.questions[1].label(1) == "2"


def test_the_csv_of_arc_holds_its_choices_in_the_question(tmp_path: Path) -> None:
    rows = [arc_csv(1), arc_csv(2, "How many, in (m)? (1) one (2) two (3) three")]
    rows[1]["AnswerKey"] = "3"
    first, second = load(write(tmp_path / "ARC-Easy-Dev.csv", csv_text(rows)), None, 0).questions
    assert (first.text, first.choices, first.answer) == ("What sinks?", ("a stone", "a cork", "a leaf", "ice"), 0)
    assert (second.text, second.choices, second.answer) == ("How many, in (m)?", ("one", "two", "three"), 2)


def test_piqa_has_its_labels_in_a_file_beside_it(tmp_path: Path) -> None:
    data = write(tmp_path / "valid.jsonl", json_lines([piqa(1), piqa(2)]))
    assert not load(data, None, 0).has_answers
    write(tmp_path / "valid-labels.lst", "1\n0\n")
    read = load(data, None, 0)
    assert (read.format, [item.answer for item in read.questions]) == ("piqa", [1, 0])
    assert read.questions[0].choices == ("Put them in the rain.", "Put them in the sun.")
    rows = write(tmp_path / "hub.jsonl", json_lines([{**piqa(1), "label": 1}]))
    assert load(rows, None, 0).questions[0].answer == 1


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ("1\n", r"valid-labels\.lst has 1 labels, but valid\.jsonl has 2 questions"),
        ("1\n2\n", r"valid-labels\.lst, line 2: a label must be 0 or 1, as in PIQA; found '2'"),
    ],
)
def test_labels_of_another_split_are_refused(tmp_path: Path, labels: str, says: str) -> None:
    data = write(tmp_path / "valid.jsonl", json_lines([piqa(1), piqa(2)]))
    write(tmp_path / "valid-labels.lst", labels)
    with pytest.raises(UserError, match=says):
        load(data, None, 0)


def test_blimp_is_pairs_of_sentences_by_phenomenon(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", json_lines([blimp(0), blimp(1)]))
    write(tmp_path / "b.jsonl", json_lines([blimp(0, "stone_islands", "island_effects")]))
    read = load(tmp_path, None, 1)
    assert (read.format, read.normalise, read.is_sentences) == ("blimp", "none", True)
    assert [(item.id, item.subject) for item in read.questions] == [
        ("stone_agreement-0", "agreement"), ("stone_agreement-1", "agreement"), ("stone_islands-0", "island_effects"),
    ]  # fmt: skip
    assert read.questions[0].choices == ("The 0 stones sink.", "The 0 stones sinks.")
    assert load(tmp_path / "b.jsonl", None, 1).questions == read.questions[2:]


TRUTHS = Truths(
    ("Stones do not dream.", "No.", "Stones dream of rivers.", "Only at night."), (True, True, False, False)
)


def of_hub() -> dict[str, Any]:
    item = truthful(1)
    return {
        name: value if name == "question" else {"choices": list(value), "labels": list(value.values())}
        for name, value in item.items()
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mc_task.json", [truthful(1)]),
        ("hub.jsonl", json_lines([of_hub()])),
        ("TruthfulQA.csv", csv_text([truthful_csv()])),
    ],
)
def test_truthfulqa_has_one_right_choice_and_several_true_answers(tmp_path: Path, name: str, content: Any) -> None:
    read = load(write(tmp_path / name, content), None, 0)
    (question,) = read.questions
    assert (read.format, read.normalise) == ("truthfulqa", "none")
    assert question.choices == ("Stones do not dream.", "Stones dream of rivers.", "Only at night.")
    assert (question.answer, question.truths) == (0, TRUTHS)
    assert question.scored_texts == (*question.choices, "No.")  # each text once


FLAWED: list[tuple[str, Any, str]] = [
    ("vmlu.jsonl", json_lines([vmlu(1, 1), vmlu(1, 2, choices="A. x")]), "line 2: choices must be a list of 2 to 5"),
    ("vmlu.jsonl", json_lines([vmlu(1, 1, answer="E")]), "line 1: the answer 'E' is not one of the choices A, B, C, D"),
    ("vmlu.jsonl", json_lines([vmlu(1, 1), vmlu(1, 2, id="x")]), "line 2: id must be like 28-0021, as in VMLU's"),
    ("vmlu.jsonl", json_lines([vmlu(1, 1), vmlu(1, 2, question=3)]), "line 2: question must be a text"),
    ("vmlu.jsonl", json_lines([vmlu(1, 1, answer="A"), vmlu(1, 2)]), "01-0002 has no answer, but 1 of 2 questions"),
    ("geo.json", [vnhsge(1), {"ID": "Geo_1_2", "Question": "?"}], "item 2: has no Choice, as in VNHSGE's JSON; found"),
    ("geo.json", [vnhsge(1, Choice="E")], r"\(MET_Geo_IE_2031_1\): the answer 'E' is not one of the choices"),
    ("geo.json", [vnhsge(1, Question="No options.")], "MET_Geo_IE_2031_1 holds no options A., B., C. on lines"),
    ("geo.json", [vnhsge(1, Image_Question="a.png")], "holds no question that can be asked: .'needs an image': 1"),
    ("lit.json", [{"Câu hỏi": "Viết.", "Đáp án": "x"}], "item 1: an essay question"),
    ("arc.jsonl", json_lines([arc(1), arc(2, question={"stem": "?"})]), "line 2: choices must have label and text"),
    ("arc.jsonl", json_lines([arc(1, "AB")]), "Invented_1 must have 3 to 5 choices with different labels"),
    ("arc.jsonl", json_lines([arc(1, "AAB")]), "choices with different labels, as in ARC's JSON lines or CSV; found A"),
    ("arc.jsonl", json_lines([arc(1, answerKey="E")]), "line 1: the answer 'E' is not one of the choices A, B, C, D"),
    ("arc.csv", csv_text([arc_csv(1, "Which?")]), "line 2: Invented_1 must have 3 to 5 choices .*; found none"),
    ("arc.csv", csv_text([arc_csv(1)]) + "x,y\n", "line 3: found 2 fields, but the header has 12"),
    ("piqa.jsonl", json_lines([piqa(1), {"goal": "g", "sol1": "s"}]), "line 2: sol2 must be a text "),
    ("blimp.jsonl", json_lines([blimp(1), blimp(2, sentence_bad="")]), "line 2: sentence_bad must be a text that"),
    ("mc.json", [truthful(1, mc1_targets={"a": 1, "b": 1})], "item 1: mc1_targets must have true and false answers"),
    ("mc.json", [truthful(1, mc1_targets={"a": 1, "b": 1, "c": 0})], "mc1_targets must have one true answer; found 2"),
    ("mc.json", [truthful(1, mc2_targets={"a": "yes", "b": 0})], "item 1: mc2_targets must map answers to 1 or 0"),
    ("mc.json", [{"question": "?", "mc1_targets": truthful(1)["mc1_targets"]}], "mc2_targets must map answers"),
    ("T.csv", csv_text([{**truthful_csv(), "Correct Answers": ""}]), "line 2: Correct Answers must be a text"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "says"), FLAWED)
def test_a_set_that_is_almost_right_is_refused_in_one_line(tmp_path: Path, name: str, content: Any, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        load(write(tmp_path / name, content), None, 0)
    assert "\n" not in str(error.value)


def test_a_compressed_file_is_read_by_its_content(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "valid.jsonl.gz").write_bytes(gzip.compress(json.dumps(vmlu(28, 1, answer="A")).encode()))
    assert load(tmp_path / "valid.jsonl.gz", None, 0).format == "vmlu"


def test_mmlu_is_still_read_as_hendrycks_layout(data_folder: Path) -> None:
    read: QuestionSet = load(data_folder / "mmlu", None, 0)
    assert (read.format, len(read.questions), read.has_answers) == ("hendrycks", 14042, True)
