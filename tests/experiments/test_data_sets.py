"""Published data sets through the commands: definitions of lm-evaluation-harness, sets without answers, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from runtime_matrix.experiments.gate import main as gate
from runtime_matrix.experiments.run import main
from runtime_matrix.experiments.tasks.task import BUNDLED_DATA
from tests.experiments.tasks.formats.files import asked, blimp, json_lines, piqa, squad, truthful, vmlu, write
from tests.in_process import call

PLAIN = ("hw.threads=1", "agreement.enabled=false", "comparison.enabled=false", "monitoring=[]", "progress=false")


def run(folder: Path, benchmark: str, *words: str, main: Callable[[], int] = main) -> CompletedProcess[str]:
    return call(main, [f"benchmark=[{benchmark}]", *PLAIN, f"results_dir={folder / 'results'}", *words])


def entries(folder: Path) -> dict[str, dict[str, Any]]:
    (record,) = (folder / "results").glob("*/record.json")
    return {entry["benchmark"]: entry for entry in json.loads(record.read_text())["benchmarks"]}


MULTIPLE = "benchmark.multiple_choice"


def test_a_set_without_answers_gives_a_submission_and_no_score(tmp_path: Path) -> None:
    data = write(tmp_path / "test.jsonl", json_lines([vmlu(28, number) for number in range(1, 5)]))
    words = (f"{MULTIPLE}.data={data}", f"{MULTIPLE}.shots=0")
    done = run(tmp_path, "multiple_choice", *words)
    assert done.returncode == 0, done.stderr
    assert "the questions of multiple_choice come without answers: submission.csv has the model's" in done.stdout
    entry = entries(tmp_path)["multiple_choice"]
    assert entry["figures"]["accuracy"] is None
    assert entry["parameters"]["submission_file"] == "submission.csv"
    (submission,) = (tmp_path / "results").glob("*/submission.csv")
    lines = submission.read_text().splitlines()
    assert lines[0] == "id,answer"
    assert [line.partition(",")[0] for line in lines[1:]] == ["28-0001", "28-0002", "28-0003", "28-0004"]
    assert {line.partition(",")[2] for line in lines[1:]} <= set("ABCD")


def test_squad_2_is_scored_by_both_kinds_of_questions(tmp_path: Path) -> None:
    data = write(tmp_path / "dev.json", squad([asked("1", "Hà Nội"), asked("2"), asked("3")]))
    done = run(tmp_path, "extractive_qa", f"benchmark.extractive_qa.data={data}")
    assert done.returncode == 0, done.stderr
    entry = entries(tmp_path)["extractive_qa"]
    figures = entry["figures"]
    assert (figures["has_answer_items"], figures["no_answer_items"]) == (1, 2)
    assert figures["f1"] == pytest.approx((figures["has_answer_f1"] + 2 * figures["no_answer_f1"]) / 3)
    assert entry["parameters"]["refusal"] == "unanswerable"
    assert "QA F1, unanswerable" in done.stdout


BAD: list[tuple[str, str, Any, tuple[str, ...], str]] = [
    ("multiple_choice", "test.jsonl", json_lines([vmlu(28, 1), vmlu(28, 2)]), (), "has no answers, which examples"),
    ("multiple_choice", "q.jsonl", json_lines([piqa(1), {"goal": "g"}]), (f"{MULTIPLE}.shots=0",), "line 2: sol1 must"),
    ("multiple_choice", "b.jsonl", json_lines([blimp(1), blimp(2)]), (f"{MULTIPLE}.style=letters",), "use style=texts"),
    ("multiple_choice", "b.jsonl", json_lines([blimp(1)]), (f"{MULTIPLE}.format=blip",), "did you mean 'blimp'?"),
    ("extractive_qa", "a.json", squad([asked("1", is_impossible=False)]), (), "question '1' has no answer, and"),
    ("extractive_qa", "a.json", squad([asked("1")]), ("benchmark.extractive_qa.refusal='...'",), "has no word"),
    ("summarization", "a", "title\n\nHà_Nội .\n", (), "found 2 paragraphs; title, abstract, body are needed"),
    ("last_word", "a.txt", "carp\n", (), "line 1: a passage must have at least two words"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "name", "content", "words", "says"), BAD)
def test_bad_input_is_one_line_and_exit_2(
    tmp_path: Path, task: str, name: str, content: Any, words: Sequence[str], says: str
) -> None:
    data = write(tmp_path / name, content)
    done = run(tmp_path, task, f"benchmark.{task}.data={data}", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_gate_claims_no_accuracy_without_answers(tmp_path: Path) -> None:
    data = write(tmp_path / "test.jsonl", json_lines([vmlu(28, number) for number in range(1, 5)]))
    others = ("speedup", "cpu_speedup", "outputs", "same_top")
    words = (
        *(f"~gate.reference.{name}" for name in others),
        "~gate.baseline",
        "gate.reference.accuracy={multiple_choice: 0.01}",
        "runtime=onnxruntime",
        f"{MULTIPLE}.data={data}",
        f"{MULTIPLE}.shots=0",
    )
    done = run(tmp_path, "multiple_choice", *words, main=gate)
    assert done.returncode not in (0, 2), done.stdout + done.stderr
    assert "come without answers" in done.stdout


INVENTED = [f"Anna Carter and {number} old friends live in Kelbrook near the Rill" for number in range(6)]
KNOWN = [line for line in (BUNDLED_DATA / "perplexity.txt").read_text().splitlines() if line.strip()][:6]
TEXTS = [*INVENTED, *KNOWN]  # the bundled model knows the latter
_LIKELIHOOD = {
    "output_type": "loglikelihood",
    "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
    "doc_to_target": "{{' '+text.split(' ')[-1]}}",
    "metric_list": [{"metric": "perplexity", "aggregation": "perplexity"}, {"metric": "acc"}],
}
_QUESTION = "Question: {{question}}\nAnswer:"
_CHOICE = {"output_type": "multiple_choice", "doc_to_target": 0, "metric_list": [{"metric": "acc"}]}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lambada", "blimp", "mc1", "mc2"])
def test_the_figures_are_those_of_lm_evaluation_harness(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
    kinds: dict[str, tuple[str, str, list[dict[str, Any]], dict[str, Any]]] = {
        "lambada": ("last_word", "accuracy", [{"text": text} for text in TEXTS], _LIKELIHOOD),
        "blimp": (
            "multiple_choice", "accuracy", [pair(number) for number in range(12)],
            {**_CHOICE, "doc_to_text": "", "doc_to_choice": "{{[sentence_good, sentence_bad]}}"},
        ),
        "mc1": (
            "multiple_choice", "accuracy", [listed(number) for number in range(12)],
            {**_CHOICE, "doc_to_text": _QUESTION, "doc_to_choice": "{{mc1_targets.choices}}"},
        ),
        "mc2": (
            "multiple_choice", "truth_mass", [listed(number) for number in range(12)],
            {
                **_CHOICE, "doc_to_text": _QUESTION, "doc_to_choice": "{{mc2_targets.choices}}",
                "process_results": "FUNCTION",
            },
        ),
    }  # fmt: skip
    benchmark, figure, items, task = kinds[kind]
    data = write(tmp_path / "data.jsonl", json_lines(items))
    files = {"data_files": {"test": str(data)}, "cache_dir": str(tmp_path / "cache")}
    head = {"task": "same", "dataset_path": "json", "dataset_kwargs": files, "test_split": "test"}
    text = json.dumps({**head, **task})
    function = "!function lm_eval.tasks.truthfulqa.utils.process_results_mc2"
    write(tmp_path / "tasks" / "same.yaml", text.replace('"FUNCTION"', function))
    done = run(
        tmp_path,
        f"{benchmark},lm_eval",
        f"benchmark.{benchmark}.data={data}",
        *([f"{MULTIPLE}.shots=0"] if benchmark == "multiple_choice" else []),
        "benchmark.lm_eval.tasks=[same]",
        f"benchmark.lm_eval.include_path={tmp_path / 'tasks'}",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    measured = entries(tmp_path)
    ours, theirs = measured[benchmark]["figures"], measured["lm_eval"]["figures"]
    assert ours[figure] == pytest.approx(theirs["same:acc"], rel=1e-5)
    assert 0 < ours[figure] < 1
    if kind == "lambada":
        assert ours["perplexity"] == pytest.approx(theirs["same:perplexity"], rel=1e-5)


def pair(number: int) -> dict[str, Any]:
    """Return a pair of BLiMP; of every second one, the other sentence counts as good."""
    item = blimp(number)
    good, bad = item["sentence_good"], item["sentence_bad"]
    return {**item, "sentence_good": bad, "sentence_bad": good} if number % 2 else item


def listed(number: int) -> dict[str, Any]:
    """Return a question of TruthfulQA as the Hub has it, which lm-evaluation-harness reads."""
    item = truthful(number)
    if number % 2:  # another answer is the right one, so that not all are right or all wrong
        item["mc1_targets"] = {answer: int(answer == "Only at night.") for answer in reversed(item["mc1_targets"])}
    return {
        name: value if name == "question" else {"choices": list(value), "labels": list(value.values())}
        for name, value in item.items()
    }
