"""The benchmark `lm_eval`: scores, standard errors and comparable items of any of lm-eval's tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any

import pytest

from runtime_matrix import load
from runtime_matrix.experiments.analysis.paired_outputs import compare_items, read_items
from runtime_matrix.experiments.evaluation.generation import generate
from runtime_matrix.experiments.evaluation.requests import GenerateRequest, Scored, ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import score
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.tasks.bench import Answers, OpenEntry
from runtime_matrix.experiments.tasks.lm_eval import TASK, LmEvalConfig
from tests.experiments.harness.local_tasks import write_tasks

pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")

MIXED = ("local_texts", "local_wikitext", "local_filters")


class ModelBench:
    """What the benchmark uses of `Bench`, over a model in this process."""

    def __init__(self, folder: Path):
        self.model, self.folder, self.seed = load("eager"), folder, 0
        self.traits, self.tokenizer_folder = self.model.traits, self.model.cell.facts.tokenizer

    def require_text(self) -> object:
        return self.model.text

    def scorer(self, requests: int) -> Any:
        def scores(stream: Iterable[ScoreRequest]) -> Iterator[Scored]:
            yield from score(self.model.runtime, self.traits, list(stream))

        return SimpleNamespace(scores=scores, figures=lambda: {"asked_tokens": requests, "padding_ratio": 0.5})

    def generated(self, requests: Sequence[GenerateRequest], stop_ids: Sequence[int]) -> Answers:
        piecewise, eos_ids = self.model.text.piecewise, (*self.model.cell.facts.eos_ids, *stop_ids)
        return Answers(generate(self.model.runtime, self.traits, requests, piecewise, eos_ids), {"steps": 1})

    def write_items(self, entry: OpenEntry, items: Iterable[Mapping[str, Any]]) -> None:
        path = self.folder / "items-lm_eval.jsonl"
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
        entry.items_file = path.name


def config(tasks: tuple[str, ...], folder: Path | None, **options: Any) -> LmEvalConfig:
    defaults = {"num_fewshot": None, "limit": 3, "apply_chat_template": False, "max_gen_toks": 16}
    include = None if folder is None else str(folder)
    lengths = {"max_length": None, "add_bos_token": None}
    return LmEvalConfig(tasks=tasks, include_path=include, **{**defaults, **lengths, **options})


def test_tasks_of_several_kinds_give_figures_and_items_that_are_compared(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "tasks", documents=16)
    bench, entry = ModelBench(tmp_path), OpenEntry("lm_eval")
    TASK.run(bench, entry, config(MIXED, folder), "")  # type: ignore[arg-type]
    lines = [json.loads(line) for line in (tmp_path / "items-lm_eval.jsonl").read_text().splitlines()]
    documents = 3 + 2 + 3
    assert [line["id"] for line in lines[:3]] == ["local_texts:0", "local_texts:1", "local_texts:2"]
    assert len({line["id"] for line in lines}) == len(lines) == documents
    assert all(0 <= line["score"] <= 1 for line in lines)
    assert [sample["filter"] for sample in lines[-1]["samples"]] == ["strict-match", "flexible-extract"]
    assert entry.figures["score"] == pytest.approx(sum(line["score"] for line in lines) / documents)
    own = [line for line in lines if line["task"] == "local_texts"]
    assert entry.figures["local_texts:acc"] == pytest.approx(sum(line["is_right"] for line in own) / 3)
    assert entry.figures["local_texts:acc_standard_error"] > 0
    right = [sample["exact_match"] for line in lines[-3:] for sample in line["samples"]]
    assert entry.figures["local_filters:exact_match_flexible_extract"] == pytest.approx(sum(right[1::2]) / 3)
    items = read_items(tmp_path / "items-lm_eval.jsonl", "lm_eval")
    diff = compare_items("lm_eval", items, items, "float32")
    assert diff.items == documents
    TASK.run(bench, entry, config(MIXED[:1], folder, limit=None, sample=4, sample_seed=1), "")  # type: ignore[arg-type]
    drawn = [json.loads(line)["id"] for line in (tmp_path / "items-lm_eval.jsonl").read_text().splitlines()]
    assert len(drawn) == 4
    assert drawn != [f"local_texts:{number}" for number in range(4)]  # the ids are those of all documents
    assert entry.parameters["sample_of"] == 16
    assert entry.figures["items"] == 4
    assert (diff.flips, diff.same_texts, diff.changed_answers) != (None, None, None)
    assert diff.same_texts is not None
    assert diff.same_texts.estimate == 1
    assert diff.max_logprob_difference == 0


def test_each_metric_of_a_task_is_a_column() -> None:
    figures = {"score": 0.5, "a:acc": 0.4, "a:acc_standard_error": 0.1, "by_task": {"a": {"acc": 0.4}}}
    entry = Entry(benchmark="lm_eval", status="ok", figures=figures)
    (key,) = TASK.further_keys(entry)
    metric = TASK.further(key)
    assert metric is not None
    assert metric.title == "a acc"
    assert metric.figures(entry) == {"lm_eval_task_a:acc": 0.4, "lm_eval_task_a:acc_standard_error": 0.1}
    assert TASK.further("lm_eval_task_a:acc_standard_error") is None
    assert TASK.further("lm_eval_flips_ratio_high") is None


@pytest.mark.parametrize(
    ("words", "named"),
    [
        pytest.param(["tasks=[local_textz]"], "local_textz", marks=pytest.mark.slow),  # reads all tasks of lm-eval
        (["tasks=[local_texts]", "include_path=/nowhere"], "/nowhere is not a folder"),
        (["tasks=[local_lost]"], "lost.json"),
        (["tasks=[local_texts]", "max_length=4096"], "context of 1024"),
        (["tasks=[]"], "empty list"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_before_anything_is_measured(
    words: list[str], named: str, tmp_path: Path, run: Callable[..., CompletedProcess[str]]
) -> None:
    folder = write_tasks(tmp_path / "tasks", documents=8)
    lost = (
        (folder / "texts.yaml").read_text().replace("local_texts", "local_lost").replace("questions.json", "lost.json")
    )
    (folder / "lost.yaml").write_text(lost)
    given = [f"benchmark.lm_eval.{word}" for word in words]
    if not any("include_path" in word for word in words):
        given.append(f"benchmark.lm_eval.include_path={folder}")
    done = run("benchmark=[lm_eval]", *given)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert named in done.stderr


@pytest.mark.slow
def test_a_sweep_has_the_scores_beside_the_speed_of_the_same_object(
    tmp_path: Path, run: Callable[..., CompletedProcess[str]]
) -> None:
    folder = write_tasks(tmp_path / "tasks", documents=16)
    words = ["benchmark=[latency,lm_eval]", f"benchmark.lm_eval.include_path={folder}", "benchmark.lm_eval.limit=6"]
    done = run("-m", "runtime=eager,onnxruntime", *words, f"benchmark.lm_eval.tasks=[{','.join(MIXED)}]")
    assert done.returncode == 0, done.stderr
    eager, onnx = (json.loads(path.read_text()) for path in sorted((tmp_path / "runs").glob("*/record.json")))
    scores = [record["benchmarks"][-1]["figures"]["by_task"] for record in (eager, onnx)]
    assert scores[0]["local_texts"] == scores[1]["local_texts"]
    assert scores[0]["local_wikitext"] == pytest.approx(scores[1]["local_wikitext"], rel=1e-5)
    (diff,) = (tmp_path / "runs").glob("*onnxruntime*/output_diff.json")
    compared = json.loads(diff.read_text())["benchmarks"]["lm_eval"]
    assert compared["flips"]["estimate"] == 0
    assert compared["same_texts"]["estimate"] == 1
