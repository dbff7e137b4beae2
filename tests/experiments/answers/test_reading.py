from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from runtime_matrix.experiments.answers.reading import read_answers
from runtime_matrix.experiments.config.errors import UserError
from tests.experiments.answers import written


def test_samples_of_lm_eval(tmp_path: Path) -> None:
    written.lm_eval(tmp_path / "run" / "model", {"arc": [1, 0, 1], "piqa": [0, 0]})
    arc, piqa = sorted(read_answers(tmp_path / "run"), key=lambda task: task.task)
    assert (arc.task, arc.metric, arc.ids, arc.scores) == ("arc", "acc", ["0", "1", "2"], [1, 0, 1])
    assert piqa.scores == [0, 0]
    assert read_answers(tmp_path / "run", "acc_norm", ["arc"])[0].scores == [1, 1, 1]


def test_the_newest_samples_count(tmp_path: Path) -> None:
    written.lm_eval(tmp_path, {"arc": [0]}, date="2026-11-01T00-00-00")
    written.lm_eval(tmp_path, {"arc": [1]}, date="2026-11-02T00-00-00")
    assert read_answers(tmp_path)[0].scores == [1]


def test_a_filter_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / f"samples_gsm_{written.DATE}.jsonl"
    lines = [
        {"doc_id": item, "filter": name, "metrics": ["exact_match"], "exact_match": float(name == "flexible")}
        for name in ("strict", "flexible")
        for item in range(2)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert read_answers(path)[0].scores == [0, 0]
    assert read_answers(path, "exact_match,flexible")[0].scores == [1, 1]
    with pytest.raises(UserError, match=r"no metric acc; did you mean|no metric acc; known"):
        read_answers(path, "acc")


@pytest.mark.parametrize("suffix", [".json", ".eval"])
def test_logs_of_inspect(tmp_path: Path, suffix: str) -> None:
    write = written.inspect_json if suffix == ".json" else written.inspect_eval
    (answers,) = read_answers(write(tmp_path / f"log{suffix}", ["C", "I", "P", 0.25, True, "no"]))
    assert (answers.task, answers.metric) == ("sums", "match")
    assert answers.scores == [1, 0, 0.5, 0.25, 1, 0]
    assert answers.ids[:2] == ["q0", "q1"]


def test_epochs_of_a_sample_share_a_cluster(tmp_path: Path) -> None:
    (answers,) = read_answers(written.inspect_json(tmp_path / "log.json", ["C", "I"], epochs=2))
    assert answers.ids == ["q0", "q0 (epoch 2)", "q1", "q1 (epoch 2)"]
    assert answers.clusters == ["q0", "q0", "q1", "q1"]


def test_logs_that_are_compressed_with_zstandard(tmp_path: Path) -> None:
    pytest.importorskip("zipfile_zstd")
    path = written.inspect_eval(tmp_path / "log.eval", ["C", "I"], method=93)
    assert read_answers(path)[0].scores == [1, 0]


def test_results_of_evalplus(tmp_path: Path) -> None:
    path = written.evalplus(tmp_path / "x_eval_results.json", [("pass", "pass"), ("pass", "fail"), ("fail", "fail")])
    assert read_answers(path)[0].scores == [1, 0, 0]
    assert read_answers(path, "base")[0].scores == [1, 1, 0]
    written.evalplus(path, [("pass", None), ("fail", None)])
    assert read_answers(tmp_path)[0].metric == "base"


def _truncated(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-40])
    return path


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    samples = written.lm_eval(tmp_path / "a", {"arc": [1, 0, 1]}) / f"samples_arc_{written.DATE}.jsonl"
    shorter = written.lm_eval(tmp_path / "b", {"arc": [1, 0, 1]}) / samples.name
    shorter.write_text("".join(shorter.read_text().splitlines(keepends=True)[:2]))
    empty = tmp_path / samples.name
    empty.write_text("")
    binary = tmp_path / f"samples_x_{written.DATE}.jsonl"
    binary.write_bytes(b"\xff\xfe")
    other = written.lm_eval(tmp_path / "c", {"arc": [1]}, metrics=["bleu"], bleu=[1, 2]) / samples.name
    text = written.lm_eval(tmp_path / "d", {"arc": [1]}, acc="high", metrics=["acc", "acc_norm"]) / samples.name
    twice = written.lm_eval(tmp_path / "e", {"arc": [1, 1]}, doc_id=7) / samples.name
    deep = tmp_path / "deep_eval_results.json"
    deep.write_text("[" * 200_000)
    no_header = tmp_path / "started.eval"
    with zipfile.ZipFile(no_header, "w") as archive:
        archive.writestr("_journal/start.json", "{}")
    nan = written.evalplus(tmp_path / "n_eval_results.json", [])
    for path, message in (
        (_truncated(samples), "line 3:"),
        (shorter, "has 2 of 3 items: it is truncated"),
        (empty, "is empty"),
        (binary, "is not text in UTF-8"),
        (other, "holds no score per item"),
        (twice, "item 7 of arc occurs twice"),
        (_truncated(written.inspect_json(tmp_path / "log.json", ["C"])), "is damaged or of another format"),
        (_truncated(written.inspect_eval(tmp_path / "log.eval", ["C"])), "is damaged or truncated"),
        (written.inspect_json(tmp_path / "error.json", ["C"], status="error"), "its status is error"),
        (written.inspect_json(tmp_path / "odd.json", [{"a": 1}]), "has no number as match"),
        (no_header, "it has no header.json"),
        (deep, "is damaged or of another format"),
        (nan, "holds no program"),
        (tmp_path / "nothing", "does not exist"),
        (Path(__file__), "holds no answers in a known format"),
    ):
        with pytest.raises(UserError) as error:
            read_answers(path)
        assert message in str(error.value), path
        assert "\n" not in str(error.value)
    assert read_answers(text)[0].metric == "acc_norm"  # the first metric with a number


def test_folders_of_several_runs_are_refused(tmp_path: Path) -> None:
    for model in "ab":
        written.lm_eval(tmp_path / "runs" / model, {"arc": [1]})
    with pytest.raises(UserError, match=r"samples of several models \(a, b\): name the folder of one"):
        read_answers(tmp_path / "runs")
    for name in "ab":
        written.inspect_json(tmp_path / "runs" / f"{name}.json", ["C"])
    with pytest.raises(UserError, match="several files of sums: name one of them"):
        read_answers(_only_logs(tmp_path / "runs"))


def _only_logs(folder: Path) -> Path:
    for samples in folder.rglob("samples_*"):
        samples.unlink()
    return folder
