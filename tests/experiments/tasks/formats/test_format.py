"""Which format reads a data set: by content, by name, and never by a silent guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.tasks.formats import format as formats
from runtime_matrix.experiments.tasks.formats.content import Content
from runtime_matrix.experiments.tasks.formats.format import Format, chosen
from runtime_matrix.experiments.tasks.questions import load
from tests.experiments.tasks.formats.files import json_lines, piqa, vmlu, write


def test_every_kind_has_a_general_format_or_tells_its_formats_apart() -> None:
    assert set(formats.formats("choices")) == {
        "arc", "blimp", "hendrycks", "piqa", "plain", "truthfulqa", "vmlu", "vnhsge",
    }  # fmt: skip
    assert set(formats.formats("passages")) == {"squad", "squad_rows"}
    assert set(formats.formats("articles")) == {"plain", "vietnews"}
    assert set(formats.formats("last_words")) == {"json", "lines"}


def test_two_formats_that_claim_a_file_are_named(tmp_path: Path) -> None:
    both = {**vmlu(28, 1, answer="A"), **piqa(1)}
    path = write(tmp_path / "both.jsonl", json_lines([both]))
    with pytest.raises(
        UserError, match=r"can be read as piqa or vmlu: choose one with .*\.multiple_choice\.format=NAME"
    ):
        load(path, None, 0)
    assert load(path, None, 0, format_name="vmlu").questions[0].id == "28-0001"


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"format=vlmu is not a known format; did you mean 'vmlu'\?"):
        load(tmp_path, None, 0, format_name="vlmu")


def test_a_named_format_says_what_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", json_lines([piqa(1)]))
    with pytest.raises(UserError, match="line 1: id must be a text that is not empty, as in VMLU's JSON lines; found"):
        load(path, None, 0, format_name="vmlu")


def test_mapped_fields_are_those_of_the_general_format(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", json_lines([vmlu(28, 1, right="C")]))
    (question,) = load(path, None, 0, {"answer": "right"}).questions
    assert (question.answer, question.subject) == (2, "q")
    with pytest.raises(UserError, match=r"multiple_choice\.fields has no effect with format=vmlu"):
        load(path, None, 0, {"answer": "right"}, "vmlu")


def test_what_no_format_claims_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never: Format[object] = Format("never", "nothing", lambda content: False, lambda content: None)
    monkeypatch.setattr(formats, "formats", lambda kind: {"never": never})
    with pytest.raises(UserError, match="is in no known format; give a file: nothing"):
        chosen("choices", Content(tmp_path, "a file"), None, "multiple_choice")


@pytest.mark.parametrize(
    ("name", "text", "is_json"),
    [("a.json", "x", True), ("a.txt", ' {"a": 1}', True), ("a.csv", "[1],b", False), ("a", "q,a,b,A", False)],
)
def test_json_is_known_by_its_name_or_its_first_character(tmp_path: Path, name: str, text: str, is_json: bool) -> None:
    assert Content(write(tmp_path / name, text), "a file").is_json is is_json


def test_a_damaged_first_line_is_no_object(tmp_path: Path) -> None:
    torn = Content(write(tmp_path / "a.jsonl", '{"a": \n'), "a file")
    assert (torn.first, torn.value, torn.header) == ({}, None, [])
