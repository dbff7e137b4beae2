"""Articles with summaries: VietNews' text files and JSON, without the marks of its word segmentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.tasks.summarization import load
from tests.experiments.tasks.formats.files import VIETNEWS, json_lines, write

ABSTRACT = "Thành phố Đà Nẵng mở hội nghị về đá ."
BODY = "Ngày 1/1 , hội nghị bắt đầu . Nhiều người đến ."


def test_vietnews_text_files_are_title_abstract_and_body(tmp_path: Path) -> None:
    for number in (2, 1):
        write(tmp_path / f"00000{number}.txt.seg", VIETNEWS)
    articles = load(tmp_path)
    assert [article.id for article in articles] == ["000001", "000002"]
    assert (articles[0].text, articles[0].references) == (BODY, (ABSTRACT,))  # captions are no part of the body
    assert load(tmp_path / "000001.txt.seg") == articles[:1]


def test_vietnews_as_json(tmp_path: Path) -> None:
    title, abstract, body = VIETNEWS.split("\n\n")[:3]
    for name, field in (("a.jsonl", "body"), ("b.jsonl", "article")):
        item = {"guid": 7, "title": title, "abstract": abstract, field: body.replace("\n", " ")}
        (article,) = load(write(tmp_path / name, json_lines([item])))
        assert (article.id, article.text, article.references) == ("7", BODY, (ABSTRACT,))


def test_an_underscore_that_is_no_segmentation_stays(tmp_path: Path) -> None:
    item = {"title": "t", "abstract": "About do_not.", "article": "The flag do_not is read."}
    (article,) = load(write(tmp_path / "a.jsonl", json_lines([item])))
    assert (article.text, article.references) == ("The flag do_not is read.", ("About do_not.",))


def test_an_article_without_a_body_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "1.txt.seg", VIETNEWS)
    write(tmp_path / "2.txt.seg", "\n\n".join(VIETNEWS.split("\n\n")[:2]))
    with pytest.raises(UserError, match=r"2\.txt\.seg: found 2 paragraphs; title, abstract, body are needed"):
        load(tmp_path)
    item = {"title": "t", "abstract": " ", "body": "Hà_Nội"}
    with pytest.raises(UserError, match="line 1: abstract must be a text that is not empty, as in VietNews'"):
        load(write(tmp_path / "a.jsonl", json_lines([item])))


def test_scitldr_is_still_read_by_its_fields(data_folder: Path) -> None:
    assert len(load(data_folder / "scitldr" / "test.jsonl")) == 618
