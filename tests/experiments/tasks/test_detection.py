"""The benchmark `detection` on a bench whose scores follow a rule."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.detector.stored import read_scores
from runtime_matrix.experiments.records.item import read_item
from runtime_matrix.experiments.tasks.detection import TASK
from runtime_matrix.experiments.tasks.detection_chunks import chunk_all, joined, sentences
from runtime_matrix.experiments.tasks.detection_data import Response, load
from runtime_matrix.experiments.tasks.score_kinds import AUC
from tests.experiments.tasks.detecting import TEXT, RuleBench, Skipped, line, options, run, write_lines


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detection") / "data.jsonl"
    return write_lines(path, (line(number, number % 3 == 0) for number in range(60)))


def test_the_head_that_tells_is_chosen_on_the_other_half(data: Path) -> None:
    bench = RuleBench()
    entry = run(bench, options(data=data, top_heads=1, m=0))
    assert {tuple(detector["heads"]) for detector in entry.figures["detectors"]} == {("(0, 1)",)}
    assert entry.figures["auc"] > 0.8
    assert entry.figures["auc_low"] < entry.figures["auc"] < entry.figures["auc_high"]
    assert entry.figures["auc_standard_error"] > 0
    assert entry.figures["mean_nll_auc"] == 0.5  # all tokens are equally likely
    assert entry.figures["responses"] == entry.figures["items"] == 60
    assert (entry.figures["unsupported_responses"], entry.figures["unsupported_chunks"]) == (20, 20)
    assert entry.figures["chunks"] == 120


def test_figures_are_those_of_the_items_file(data: Path, tmp_path: Path) -> None:
    bench = RuleBench(noise=0.3)
    entry = run(bench, options(data=data))
    items = [read_item(item, "response_score") for item in bench.items]
    linear = AUC.scored(items, "response_score")
    assert sum(linear.scores) / len(items) == pytest.approx(entry.figures["auc"], abs=1e-12)
    scores = read_scores(write_lines(tmp_path / "items.jsonl", bench.items))
    assert scores.heads[:3] == ("(0, 0)", "(0, 1)", "(1, 0)")
    assert scores.layers == ("layer_0", "layer_1", "layer_2")
    assert set(scores.baselines) == {"length", "mean_nll"}
    assert scores.is_unsupported_R.tolist() == [item["is_unsupported"] for item in bench.items]
    assert not scores.notes
    first = bench.items[0]
    assert len(first["response_spans"]) == len(first["scores"]) == len(first["chunk_scores"]) == 2
    assert len({len(values) for values in first["token_scores"].values()}) == 1
    assert first["token_scores"]["ends"][-1] == len(first["response"])


def test_metrics_read_the_entry(data: Path) -> None:
    from runtime_matrix.experiments.records.schema import Entry

    entry = Entry(status="ok", **vars(run(RuleBench(), options(data=data))))
    figures: dict[str, float | None] = {}
    for metric in TASK.metrics:
        figures |= metric.figures(entry)
    assert figures["detection_samples_per_min"] == 600
    assert figures["detection_peak_bytes"] == 1000
    assert figures["detection_auc_in_sample"] is not None
    assert figures["detection_fits_per_min"] is not None
    unknown = [key for key, value in figures.items() if value is None]
    assert unknown == [], unknown


def test_labels_of_one_class_or_too_few_responses_are_skipped_with_the_reason(tmp_path: Path) -> None:
    supported = write_lines(tmp_path / "one.jsonl", (line(number, False) for number in range(6)))
    with pytest.raises(Skipped, match="all 6 responses are supported"):
        run(RuleBench(), options(data=supported))
    few = write_lines(tmp_path / "few.jsonl", (line(number, number == 0, source_id="s") for number in range(3)))
    with pytest.raises(Skipped, match="too few"):
        run(RuleBench(), options(data=few))


def test_long_contexts_are_cut_and_counted(data: Path) -> None:
    bench = RuleBench()
    entry = run(bench, options(data=data, max_tokens=32))
    assert entry.figures["cut_contexts"] == 60
    assert entry.figures["left_out_responses"] == 0
    assert {len(request.ids) <= 33 for request in bench.used[0].seen} == {True}
    assert all(len(request.context) > 0 for request in bench.used[0].seen)
    whole = RuleBench()
    run(whole, options(data=data))
    kept, full = bench.used[0].seen[0], whole.used[0].seen[0]
    assert kept.ids[kept.first_scored :] == full.ids[full.first_scored :]
    with pytest.raises(Skipped, match="none of 60 responses fits"):
        run(RuleBench(), options(data=data, max_tokens=10))


def test_a_draw_keeps_the_shares_of_both_labels(data: Path) -> None:
    drawn = replace(options(data=data), sample=30)
    entry = run(RuleBench(), drawn)
    assert (entry.figures["responses"], entry.figures["unsupported_responses"]) == (30, 10)


@pytest.mark.parametrize("value", ["f1", "0.5", 0.5])
def test_a_threshold_is_a_rule(value: object) -> None:
    assert options(threshold=value).setting(0).threshold == str(value)


def test_options_that_contradict_are_refused() -> None:
    with pytest.raises(UserError, match=r"benchmark\.detection\.threshold=0\.7 is unknown; known: 0\.5, f1"):
        options(threshold=0.7)
    with pytest.raises(UserError, match="detection: heads=fixed needs the names of heads"):
        TASK.check(options(heads="fixed"))
    TASK.check(options(heads="fixed", fixed_heads=["(0, 1)"]))
    with pytest.raises(UserError, match=r"benchmark\.detection\.heads=acu is unknown; did you mean 'auc'"):
        options(heads="acu")


def test_sentences_cover_the_text() -> None:
    text = 'One. "Two!" Three?\n\n- four\n  five… 六。七'
    spans = sentences(text)
    assert "".join(text[start:end] for start, end in spans) == text
    found = [text[start:end].strip() for start, end in spans]
    assert found == [
        "One.",
        '"Two!"',
        "Three?",
        "- four",
        "five… 六。",
        "七",
    ]
    assert sentences("no end") == [(0, 6)]
    assert sentences("...") == [(0, 3)]


def test_tokens_belong_to_the_sentence_of_their_last_character() -> None:
    response = Response("a", "a", "Say it:", (0, 7), "Anna went. Berta came.\n", ((11, 16),))
    (chunked,) = chunk_all(TEXT, [response], None).chunked
    whole, start = joined(response)
    assert whole[start:] == response.text
    assert chunked.spans == [(0, 11), (11, 23)]
    assert chunked.is_unsupported_N == [False, True]
    assert chunked.ends_T == sorted(chunked.ends_T)
    assert [end <= 11 for end in chunked.ends_T] == [chunk == 0 for chunk in chunked.chunk_T]
    ids = chunked.request.ids
    assert TEXT.decode(ids[chunked.request.first_scored :]).strip() == response.text.strip()
    assert TEXT.decode([ids[index] for index in chunked.request.context]) == "Say it:"


def test_the_context_is_its_tokens_within_the_prompt(data: Path) -> None:
    (chunked, *_) = chunk_all(TEXT, load(data, None, None, 1).responses, None).chunked
    request = chunked.request
    found = TEXT.decode([request.ids[index] for index in request.context])
    assert found.strip() == "Anna lives in Norden. Anna bought salt for two coins."


def ragtruth_source(name: object, task: str, info: object, prompt: str) -> JsonObject:
    return {"source_id": name, "task_type": task, "source": "-", "source_info": info, "prompt": prompt}


def ragtruth_response(name: str, source: str, text: str, *spans: tuple[int, int], **more: object) -> JsonObject:
    labels = [
        {"start": start, "end": end, "text": text[start:end], "meta": "", "label_type": "Evident Conflict"}
        for start, end in spans
    ]
    facts = {"model": "gpt-4", "temperature": 0.7, "split": "test", "quality": "good"}
    return {"id": name, "source_id": source, **facts, "labels": labels, "response": text, **more}


def test_ragtruth_is_read_from_its_two_files(tmp_path: Path) -> None:
    passages = {"question": "q?", "passages": "passage 1: x"}
    sources = [
        ragtruth_source("1", "Summary", "The news.", "Sum up:\nThe news.\noutput:"),
        ragtruth_source(2, "QA", passages, "Answer q?\npassage 1: x"),
        ragtruth_source("3", "Data2txt", {"name": "Bar"}, "Write of {'name': 'Bar'}"),
    ]
    responses = [
        ragtruth_response("10", "1", "It says."),
        ragtruth_response("11", "2", "Yes it is", (0, 3), (2, 6), (7, 9)),
        ragtruth_response("12", "3", "Yes.", (0, 3), model="llama", split="train"),
        ragtruth_response("13", "9", "x"),
        ragtruth_response("14", "1", "short", (0, 90)),
        ragtruth_response("15", "1", " \n"),
    ]
    write_lines(tmp_path / "source_info.jsonl", sources)
    write_lines(tmp_path / "response.jsonl", responses)
    found = load(tmp_path, None, None, None)
    assert [response.id for response in found.responses] == ["10", "11", "12"]
    assert found.left_out == {
        "a source_id that source_info.jsonl lacks": 1,
        "a label that is no part of the response": 1,
        "no text": 1,
    }
    contexts = [response.prompt[slice(*response.context)] for response in found.responses]
    assert contexts == ["The news.", "passage 1: x", "Write of {'name': 'Bar'}"]
    assert [response.unsupported for response in found.responses] == [(), ((0, 6), (7, 9)), ((0, 3),)]
    assert [one.id for one in load(tmp_path, "llama", None, None).responses] == ["12"]
    assert [one.id for one in load(tmp_path, None, "test", 1).responses] == ["10"]
    with pytest.raises(UserError, match=r"benchmark\.detection\.model=lama: .* has no response of it; did you mean"):
        load(tmp_path, "lama", None, None)


HOSTILE = [
    ("[1, 2]", "not a JSON object"),
    ("{}", "has no response"),
    (json.dumps(line(0, True, response=None)), "response must be a text; found None"),
    (json.dumps(line(0, True, labels=None)), "labels must be a list of spans"),
    (json.dumps(line(0, True, labels={"start": 1})), "labels must be a list of spans"),
    (json.dumps(line(0, True, labels=[[1, 2]])), "label 1 needs start and end"),
    (json.dumps(line(0, True, labels=[{"start": 0.0, "end": 2}])), "label 1 needs start and end"),
    (json.dumps(line(0, True, labels=[{"start": True, "end": 2}])), "label 1 needs start and end"),
    (json.dumps(line(0, True, id=[1])), "id must be a text or a whole number"),
    (json.dumps(line(0, True, source_id=1.5)), "source_id must be a text or a whole number"),
    (json.dumps(line(0, True, context=3)), "context must be a text"),
    (json.dumps(line(0, True, response="\ud800")), "half of a surrogate pair"),
    (json.dumps(line(0, True)) + "\n" + json.dumps(line(0, True)), "occurs twice"),
    (json.dumps(line(0, True, labels=[{"start": 5, "end": 5}])), "1 with a label that is no part of the response"),
    ("", "holds no response that can be used"),
    ("{" * 3, "not JSON"),
]


@pytest.mark.parametrize(("content", "message"), HOSTILE)
def test_bad_data_is_one_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        TASK.check_data(options(data=path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_or_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(UserError, match="give a folder with RAGTruth's"):
            TASK.check_data(options(data=path))
