"""Tasks of lm-evaluation-harness over local files, one per kind of request and prompt."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

BUNDLED = ROOT / "experiments" / "bundled" / "data"
DOCUMENTS = 48

_QUESTION = "Question: {{question}}\nAnswer:"
_LETTERS = "{{question}}\n{% for choice in choices %}{{'ABCDEFGHIJ'[loop.index0]}}. {{choice}}\n{% endfor %}Answer:"
_ACC, _NORM = {"metric": "acc"}, {"metric": "acc_norm"}
_EXACT = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
_CHOICE = {"output_type": "multiple_choice", "doc_to_target": "answer", "metric_list": [_ACC, _NORM]}
_FIRST = {"fewshot_config": {"sampler": "first_n"}}
_TEXT = {"output_type": "generate_until", "metric_list": [_EXACT]}

# By name: the data file and what differs from the defaults.
TASKS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "letters_5_shot": (
        "questions",
        {**_CHOICE, **_FIRST, "num_fewshot": 5, "doc_to_text": _LETTERS, "doc_to_choice": ["A", "B", "C", "D"]},
    ),
    "texts": ("questions", {**_CHOICE, "doc_to_text": _QUESTION, "doc_to_choice": "{{choices}}"}),
    "texts_random_5_shot": (
        "questions",
        {
            **_CHOICE,
            "description": "These are questions about animals and places.\n\n",
            "num_fewshot": 5,
            "doc_to_text": _QUESTION,
            "doc_to_choice": "{{choices}}",
        },
    ),
    "cloze": (
        "stories",
        {**_CHOICE, "doc_to_text": "{{start}}", "doc_to_choice": "{{endings}}", "target_delimiter": " "},
    ),
    "moved_spaces": (
        "stories",
        {**_CHOICE, "doc_to_text": "{{start}}  ", "doc_to_choice": "{{endings}}", "target_delimiter": ""},
    ),
    "several_targets": (
        "questions",
        {
            **_CHOICE,
            "doc_to_text": _QUESTION,
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{[answer, (answer + 1) % 4]}}",
            "metric_list": [_ACC],
        },
    ),
    "mutual_information": (
        "questions",
        {
            **_CHOICE,
            "doc_to_text": _QUESTION,
            "doc_to_choice": "{{choices}}",
            "metric_list": [_ACC, {"metric": "acc_mutual_info"}],
        },
    ),
    "winograd": (
        "stories",
        {
            "output_type": "multiple_choice",
            "doc_to_text": "answer",
            "doc_to_choice": "{{starts}}",
            "doc_to_target": "{{end}}",
            "metric_list": [_ACC],
        },
    ),
    "lambada": (
        "stories",
        {
            "output_type": "loglikelihood",
            "doc_to_text": "{{start}}",
            "doc_to_target": "{{' ' + end}}",
            "metric_list": [{"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}, _ACC],
        },
    ),
    "wikitext": (
        "pages",
        {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{page}}",
            "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
        },
    ),
    "until": (
        "stories",
        {
            **_TEXT,
            "doc_to_text": "{{start}}",
            "doc_to_target": "{{end}}",
            "generation_kwargs": {"until": [".", " and", "\n\n"], "max_gen_toks": 24, "do_sample": False},
        },
    ),
    "filters": (
        "passages",
        {
            **_TEXT,
            **_FIRST,
            "num_fewshot": 2,
            "doc_to_text": "Passage: {{context}}\n\nQuestion: {{question}}\nAnswer:",
            "doc_to_target": "{{answer}}",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 16},
            "filter_list": [
                {
                    "name": "strict-match",
                    "filter": [
                        {"function": "regex", "regex_pattern": r"^\s*(the \w+)"},
                        {"function": "take_first"},
                    ],
                },
                {
                    "name": "flexible-extract",
                    "filter": [
                        {"function": "regex", "group_select": -1, "regex_pattern": r"(\w+)"},
                        {"function": "take_first"},
                    ],
                },
            ],
        },
    ),
}


def write_tasks(folder: Path, documents: int = DOCUMENTS) -> Path:
    """Write the data and one YAML file per task; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in _data(documents).items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    for name, (data, options) in TASKS.items():
        task = {
            "task": f"local_{name}",
            "dataset_path": "json",
            "dataset_kwargs": {
                "data_files": {"test": str(folder / f"{data}.json")},
                "cache_dir": str(folder / "cache"),
            },
            "test_split": "test",
            "fewshot_split": "test",
            **options,
        }
        (folder / f"{name}.yaml").write_text(json.dumps(task))  # JSON is YAML
    return folder


def names() -> list[str]:
    """Return the names of the tasks as lm-eval knows them."""
    return [f"local_{name}" for name in TASKS]


def _data(documents: int) -> dict[str, list[dict[str, Any]]]:
    questions = []
    for file in sorted((BUNDLED / "multiple_choice" / "test").glob("*.csv")):
        with file.open(encoding="utf-8", newline="") as lines:
            for question, *choices, answer in list(csv.reader(lines))[: documents // 8]:
                questions.append({"question": question, "choices": choices, "answer": "ABCD".index(answer)})
    text = (BUNDLED / "perplexity.txt").read_text(encoding="utf-8")
    sentences = [line for line in text.splitlines() if len(line.split()) > 12]
    stories = [_story(number, sentences) for number in range(documents)]
    size = 6000  # characters: more than the model's context
    pages = [{"page": text[start : start + size]} for start in range(0, size * max(2, documents // 8), size)]
    return {"questions": questions, "stories": stories, "pages": pages, "passages": _passages(documents)}


def _story(number: int, sentences: list[str]) -> dict[str, Any]:
    words = sentences[number].split()
    endings = [" ".join(sentences[number + shift].split()[-5:]) for shift in (0, 7, 19)]
    starts = [" ".join([*words[:-6], word]) for word in (words[-6], sentences[number + 7].split()[0])]
    start, end = " ".join(words[:-5]), " ".join(words[-5:])
    return {"start": start, "end": end, "endings": endings, "starts": starts, "answer": 0}


def _passages(documents: int) -> list[dict[str, Any]]:
    content = json.loads((BUNDLED / "extractive_qa.json").read_text(encoding="utf-8"))
    return [
        {"context": paragraph["context"], "question": qa["question"], "answer": qa["answers"][0]["text"]}
        for article in content["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"][:1]
    ][:documents]
