"""Writes small data sets in the exact layouts of their publishers. The questions are invented."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def json_lines(items: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)


def csv_text(rows: Sequence[dict[str, str]]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def vmlu(subject: int, number: int, **changes: Any) -> dict[str, Any]:
    """Return a question as in VMLU's test.jsonl, which has no answers; valid.jsonl and dev.jsonl have `answer` too."""
    choices = ["A. Sông Đỏ", "B. Sông Xanh", "C.Sông Vàng", "D. A. Trắng"]
    return {"id": f"{subject:02d}-{number:04d}", "question": f"Sông {number} là gì?", "choices": choices, **changes}


def vnhsge(number: int, **changes: Any) -> dict[str, Any]:
    """Return a question of VNHSGE's JSON arrays."""
    return {
        "ID": f"MET_Geo_IE_2031_{number}",
        "Image_Question": "",
        "Question": f"Câu {number}: Hồ nào lớn nhất?\nA. Hồ Một\t\nB.Hồ Hai \t\n\nC. Hồ Ba\nD. -4",
        "Choice": "C",
        "Image_Answer": "",
        "Explanation": "Chọn C",
        **changes,
    }


def arc(number: int, labels: str = "ABCD", **changes: Any) -> dict[str, Any]:
    """Return a question of AI2's ARC-Challenge-Test.jsonl."""
    choices = [{"text": f"stone {label}", "label": label} for label in labels]
    question = {"stem": f"What sinks in pond {number}?", "choices": choices}
    return {"id": f"Invented_{number}", "question": question, "answerKey": labels[1], **changes}


def arc_row(number: int, labels: str = "ABCD") -> dict[str, Any]:
    """Return a question of ARC as a row of the Hub."""
    choices = {"text": [f"stone {label}" for label in labels], "label": list(labels)}
    return {"id": f"Invented_{number}", "question": "What sinks?", "choices": choices, "answerKey": labels[1]}


def arc_csv(number: int, question: str = "What sinks? (A) a stone (B) a cork (C) a leaf (D) ice") -> dict[str, str]:
    """Return a row of AI2's ARC-Challenge-Test.csv."""
    head = {"questionID": f"Invented_{number}", "originalQuestionID": str(number), "totalPossiblePoint": "1"}
    middle = {"AnswerKey": "A", "isMultipleChoiceQuestion": "1", "includesDiagram": "0", "examName": "Invented"}
    return {
        **head,
        **middle,
        "schoolGrade": "5",
        "year": "2031",
        "question": question,
        "subject": "",
        "category": "Test",
    }


def piqa(number: int) -> dict[str, Any]:
    """Return a question of PIQA's valid.jsonl and tests.jsonl."""
    return {"goal": f"Dry {number} cups.", "sol1": "Put them in the rain.", "sol2": "Put them in the sun."}


def blimp(number: int, paradigm: str = "stone_agreement", term: str = "agreement", **changes: Any) -> dict[str, Any]:
    """Return a pair of BLiMP's data/PARADIGM.jsonl."""
    return {
        "sentence_good": f"The {number} stones sink.",
        "sentence_bad": f"The {number} stones sinks.",
        "field": "morphology",
        "linguistics_term": term,
        "UID": paradigm,
        "simple_LM_method": True,
        "one_prefix_method": True,
        "two_prefix_method": False,
        "lexically_identical": False,
        "pairID": str(number),
        **changes,
    }


def truthful(number: int, **changes: Any) -> dict[str, Any]:
    """Return a question of TruthfulQA's mc_task.json."""
    return {
        "question": f"Do stones dream on day {number}?",
        "mc1_targets": {"Stones do not dream.": 1, "Stones dream of rivers.": 0, "Only at night.": 0},
        "mc2_targets": {"Stones do not dream.": 1, "No.": 1, "Stones dream of rivers.": 0, "Only at night.": 0},
        **changes,
    }


def truthful_csv() -> dict[str, str]:
    """Return a row of TruthfulQA.csv."""
    return {
        "Type": "Adversarial",
        "Category": "Stones",
        "Question": "Do stones dream?",
        "Best Answer": "Stones do not dream",
        "Correct Answers": "Stones do not dream; No.",
        "Incorrect Answers": "Stones dream of rivers; Only at night.",
        "Source": "invented",
    }


def squad(questions: Sequence[dict[str, Any]], context: str = "Lan sống ở Hà Nội.") -> dict[str, Any]:
    """Return a file of SQuAD 2.0, as ViQuAD has it."""
    return {"version": "v2.0", "data": [{"title": "Lan", "paragraphs": [{"qas": list(questions), "context": context}]}]}


def asked(name: str, *answers: str, **changes: Any) -> dict[str, Any]:
    """Return a question of SQuAD 2.0; without answers it is unanswerable."""
    own = {"question": "Ở đâu?", "id": name, "answers": [{"text": text, "answer_start": 0} for text in answers]}
    plausible = {} if answers else {"plausible_answers": [{"text": "Hà Nội", "answer_start": 11}]}
    return {**own, "is_impossible": not answers, **plausible, **changes}


VIETNEWS = (
    "Hội_nghị về đá\n\nThành_phố Đà_Nẵng mở hội_nghị về đá .\n\nNgày 1/1 , hội_nghị bắt_đầu .\nNhiều người đến .\n\n"
    "Ảnh của hội_nghị .\nẢnh : PV\n"
)


def write(path: Path, content: str | list[dict[str, Any]] | dict[str, Any]) -> Path:
    """Write text as it is, and values as an indented JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=4)
    path.write_text(text, encoding="utf-8")
    return path
