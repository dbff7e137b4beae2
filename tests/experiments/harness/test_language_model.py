"""Answers through the adapter equal those of lm-evaluation-harness's own `hf` backend."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.experiments.harness.local_tasks import DOCUMENTS, names, write_tasks

lm_eval = pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")

BUNDLED = ROOT / "experiments" / "bundled" / "model"
MOST_NATS = 1e-4
EXACT = ("acc", "acc_norm", "acc_mutual_info", "exact_match")  # metrics of one sample
TEMPLATE = (
    "{% for message in messages %}{{ bos_token if loop.first else '' }}{{ message['role'] }}: {{ message['content'] }}"
    "\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bundled model with a chat template."""
    folder = tmp_path_factory.mktemp("chat") / "model"
    shutil.copytree(BUNDLED, folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": TEMPLATE}))
    generation = json.loads((folder / "generation_config.json").read_text())
    del generation["max_new_tokens"]  # `hf` would generate as many tokens, whatever the task says
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def theirs(folder: Path, **options: Any) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=8, **options)


def ours(folder: Path, **options: Any) -> Any:
    from runtime_matrix.experiments.api.harness import RuntimeMatrixLM

    return RuntimeMatrixLM(model_path=str(folder), **options)


def evaluated(model: Any, tasks: list[str], folder: Path, limit: int, **options: Any) -> Mapping[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    results: Mapping[str, Any] = simple_evaluate(
        model=model, tasks=tasks, task_manager=manager, limit=limit, bootstrap_iters=0, **options
    )
    return results


def check_same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Check answers sample by sample, then the metrics."""
    assert ours["samples"].keys() == theirs["samples"].keys()
    for task, samples in ours["samples"].items():
        assert len(samples) == len(theirs["samples"][task]) > 0
        for own, other in zip(samples, theirs["samples"][task], strict=True):
            assert own["arguments"] == other["arguments"]
            for (answer,), (expected,) in zip(own["resps"], other["resps"], strict=True):
                check_answer(task, answer, expected)
            assert [own.get(name) for name in EXACT] == [other.get(name) for name in EXACT]
    for task, metrics in ours["results"].items():
        numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
        assert numbers == pytest.approx({name: theirs["results"][task][name] for name in numbers}, rel=1e-4), task


def check_answer(task: str, answer: Any, expected: Any) -> None:
    if isinstance(answer, str):
        assert answer == expected, task
    elif isinstance(answer, float):  # a whole text of some 2,000 tokens
        assert answer == pytest.approx(expected, abs=MOST_NATS * 20), task
    else:
        assert answer[0] == pytest.approx(expected[0], abs=MOST_NATS), task
        assert answer[1] == expected[1], task


def test_a_few_answers_of_each_kind_equal_those_of_hf(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "tasks", documents=16)
    results = [evaluated(model, names(), folder, limit=2) for model in (ours(BUNDLED), theirs(BUNDLED))]
    check_same(*results)


def test_cut_contexts_are_counted() -> None:
    model = ours(BUNDLED, max_length=16)
    for length in (15, 16, 17, 40):
        context, continuation = model._row(None, list(range(8, 8 + length)), [5])
        assert (len(context), continuation) == (min(length, 16), (5,))
    assert model.cut_contexts == 2


@pytest.mark.slow
def test_answers_of_each_kind_equal_those_of_hf_under_two_runtimes(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "tasks")
    expected = evaluated(theirs(BUNDLED), names(), folder, limit=DOCUMENTS)
    for runtime in ("eager", "onnxruntime"):
        model = ours(BUNDLED, runtime=runtime)
        check_same(evaluated(model, names(), folder, limit=DOCUMENTS), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"max_length": 64}, {"add_bos_token": False}, {"prefix_token_id": 5}, {"max_length": 96, "add_bos_token": False}],
    ids=str,
)
def test_answers_equal_those_of_hf_with_other_options(options: dict[str, Any], tmp_path: Path) -> None:
    """Short rows truncate contexts and cut rolling texts into many windows."""
    folder = write_tasks(tmp_path / "tasks", documents=16)
    results = [evaluated(model(BUNDLED, **options), names(), folder, limit=6) for model in (ours, theirs)]
    check_same(*results)


def test_texts_of_a_chat_template_equal_those_of_hf(chat_model: Path, tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "tasks", documents=16)
    options = {"limit": 4, "apply_chat_template": True, "fewshot_as_multiturn": True}
    results = [
        evaluated(model(chat_model), ["local_filters", "local_letters_5_shot"], folder, **options)
        for model in (ours, theirs)
    ]
    assert "assistant:" in results[0]["samples"]["local_filters"][0]["arguments"][0][0]
    check_same(*results)
