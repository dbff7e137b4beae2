"""Stored scores: what is written is read back, and what cannot be used is counted or refused in one line."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.detector.stored import read_scores, stored_response, stored_responses
from tests.experiments.detector.made import made

Items = list[dict[str, Any]]


def items(responses: int = 6) -> Items:
    return list(stored_responses(made(responses=responses, heads=4, layers=2)))


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("form", ["array", "lines", "gzip"])
def test_what_is_written_is_read_back(form: str, tmp_path: Path) -> None:
    scores, lines = made(), "\n".join(json.dumps(item) for item in stored_responses(made()))
    path = tmp_path / ("scores.gz" if form == "gzip" else "scores.json")
    if form == "gzip":
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        write(path, lines if form == "lines" else list(stored_responses(scores)))
    found = read_scores(path)
    for name in ("external_context_NH", "parametric_knowledge_NL", "is_unsupported_N", "response_N"):
        assert np.array_equal(getattr(found, name), getattr(scores, name))
    for name in ("responses", "sources", "heads", "layers", "notes"):
        assert getattr(found, name) == getattr(scores, name)
    assert found.baselines["length"].tolist() == scores.baselines["length"].tolist()


def test_more_keys_are_allowed_and_the_text_gives_a_length(tmp_path: Path) -> None:
    scores = made(responses=2)
    stored = [
        stored_response(name, name, scores.part([index]), {"response": "ab" * (index + 1), "model": "m"})
        for index, name in enumerate(scores.responses)
    ]
    for item in stored:
        item["baselines"] = {"mean_nll": 2}
    found = read_scores(write(tmp_path / "a.json", stored))
    assert {name: values.tolist() for name, values in found.baselines.items()} == {"mean_nll": [2, 2], "length": [2, 4]}


def test_a_published_log_is_read(data_folder: Path) -> None:
    found = read_scores(data_folder / "redeep" / "llama2_7b_response_chunk.json")
    assert (len(found.responses), len(found.response_N), len(found.heads), found.layers) == (
        450,
        1159,
        32,
        ("layer_0",),
    )
    assert int(found.is_unsupported_R.sum()) == 226
    assert found.notes == ()


def damaged(kind: str) -> Items:
    found = items()
    chunk = found[0]["scores"][0]
    heads, layers = chunk["prompt_attention_score"], chunk["parameter_knowledge_scores"]
    changes: dict[str, Any] = {
        "nan": lambda: heads.update({"(0, 0)": math.nan}),
        "null": lambda: layers.update(layer_0=None),
        "huge": lambda: heads.update({"(0, 0)": 10**400}),
        "no head": lambda: heads.pop("(0, 0)"),
        "no heads": lambda: chunk.pop("prompt_attention_score"),
        "no layers": lambda: chunk.update(parameter_knowledge_scores=None),
        "no label": lambda: chunk.pop("hallucination_label"),
        "no chunks": lambda: found[0].update(scores=[]),
        "null chunks": lambda: found[0].update(scores=None),
        "no scores": lambda: found[0].pop("scores"),
    }
    changes[kind]()
    return found


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("nan", "a chunk with a score that is not finite"),
        ("null", "a chunk with a score that is not finite"),
        ("huge", "a chunk with a score that is not finite"),
        ("no head", "a chunk without the scores of heads or layers that most chunks have"),
        ("no heads", "a chunk without the scores of heads or layers that most chunks have"),
        ("no layers", "a chunk without the scores of heads or layers that most chunks have"),
        ("no label", "a chunk without hallucination_label"),
        ("no chunks", "no chunks"),
        ("null chunks", "no chunks"),
        ("no scores", "no chunks"),
    ],
)
def test_a_response_that_cannot_be_used_is_left_out_and_counted(kind: str, reason: str, tmp_path: Path) -> None:
    found = read_scores(write(tmp_path / "a.json", damaged(kind)))
    assert found.responses == ("r1", "r2", "r3", "r4", "r5")
    assert found.notes == (f"1 response left out: {reason}",)
    assert len(found.heads) == 4


def test_heads_of_few_chunks_are_left_out(tmp_path: Path) -> None:
    stored = items()
    stored[0]["scores"][0]["prompt_attention_score"] |= {"(40, 1)": 0.5, "(41, 1)": 0.5}
    found = read_scores(write(tmp_path / "a.json", stored))
    assert (len(found.responses), len(found.heads)) == (6, 4)
    assert found.notes == ("2 heads left out: scored in few chunks",)


def test_odd_responses_are_noted(tmp_path: Path) -> None:
    stored = items()
    for item in stored:
        item["response"] = "text"
    stored[0]["response_spans"] = [[0, 4], [2, 99], "x", [1]]
    stored[1]["labels"] = [{"start": -1, "end": 2}, {"start": "a"}, 3]
    del stored[2]["source_id"]
    stored[3]["id"] = stored[4]["id"]
    stored[5]["baselines"] = {}
    stored[4]["baselines"] = {"other": 1}
    found = read_scores(write(tmp_path / "a.json", stored))
    assert found.sources[2] == "r2"
    assert found.notes == (
        "2 spans reach outside the text of the response; chunks keep their stored labels",
        "1 response without source_id: each is a source of its own",
        "1 response with the id of another",
        "baseline other left out: some responses have none",
    )


def test_a_split_is_chosen(tmp_path: Path) -> None:
    stored = items()
    for index, item in enumerate(stored):
        item["split"] = "train" if index < 2 else "test"
    path = write(tmp_path / "a.json", stored)
    assert len(read_scores(path).responses) == 6
    assert read_scores(path, "test").responses == ("r2", "r3", "r4", "r5")
    with pytest.raises(UserError, match="no response is of the split tset; did you mean 'test'"):
        read_scores(path, "tset")


def mistaken(change: Any) -> Items:
    stored = items(2)
    change(stored[0], stored[0]["scores"][0])
    return stored


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "holds no responses"),
        ("[]", "holds no responses"),
        ("[1]", "item 1: not a JSON object"),
        ('{"a": 1}', "line 1: has no scores; found a"),
        ("{", "line 1: not JSON"),
        ("[" * 100_000, "nested too deeply"),
        (mistaken(lambda item, chunk: item.update(scores="x")), "scores must be a list of chunks; found a text"),
        (mistaken(lambda item, chunk: item.update(scores=[3])), "item 1, chunk 1: must be an object; found a number"),
        (mistaken(lambda item, chunk: item.update(baselines=[3])), "baselines: must be an object of numbers"),
        (
            mistaken(lambda item, chunk: item.update(baselines={"a": "b"})),
            "baselines, a: must be a number; found a text",
        ),
        (mistaken(lambda item, chunk: chunk.update(hallucination_label=2)), "must be 0 or 1; found '2'"),
        (mistaken(lambda item, chunk: chunk.update(hallucination_label=[])), "must be 0 or 1"),
        (
            mistaken(lambda item, chunk: chunk.update(prompt_attention_score=[1])),
            "must be an object of numbers by name",
        ),
        (mistaken(lambda item, chunk: chunk["prompt_attention_score"].update(a=True)), "found true or false"),
        ([{"id": 1, "scores": []}], "no response can be used; 1 response left out: no chunks"),
    ],
)
def test_another_layout_is_one_line(content: object, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        read_scores(write(tmp_path / "a.json", content))
    assert "\n" not in str(caught.value)
