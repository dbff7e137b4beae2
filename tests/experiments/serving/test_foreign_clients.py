"""Clients that we did not write finish unmodified: the openai package, GuideLLM and lm-evaluation-harness."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.experiments.serving.served import Served
from tests.conftest import ROOT
from tests.experiments.harness.local_tasks import write_tasks
from tests.experiments.serving.server import running

pytestmark = pytest.mark.slow
MODEL = BUNDLED / "model"
TASKS = "local_texts,local_lambada,local_wikitext,local_until,local_letters_5_shot"
OFFLINE = {"HF_HUB_OFFLINE": "1", "GUIDELLM__MAX_WORKER_PROCESSES": "1", "NO_PROXY": "127.0.0.1"}

OPENAI = """
import sys
import openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none")
assert [model.id for model in client.models.list()] == ["bundled"]
asked = {"model": "bundled", "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
whole = client.completions.create(**asked, logprobs=2, echo=True)
parts = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
text = "".join(part.choices[0].text for part in parts if part.choices)
assert whole.choices[0].text == asked["prompt"] + text
assert parts[-1].usage.completion_tokens == whole.usage.completion_tokens == 8
assert len(whole.choices[0].logprobs.tokens) == whole.usage.total_tokens
asked = {"model": "bundled", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0}
chat = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2).choices[0]
parts = client.chat.completions.create(**asked, stream=True)
assert chat.message.content == "".join(part.choices[0].delta.content for part in parts)
assert len(chat.logprobs.content[0].top_logprobs) == 2
for error, wrong in ((openai.NotFoundError, {"model": "other"}), (openai.BadRequestError, {"max_tokens": 5000})):
    try:
        client.completions.create(**{"model": "bundled", "prompt": "x", **wrong})
    except error:
        continue
    raise AssertionError(wrong)
print("finished")
"""


def program(environment: str, name: str) -> str:
    """Return a program of an environment, or skip with the reason."""
    path = ROOT / ".slow" / environment / "bin" / name
    if not path.is_file():
        pytest.skip(f"needs {environment}: make install-slow")
    return str(path)


def done(command: Sequence[str], folder: Path) -> str:
    finished = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=600, check=False, env=os.environ | OFFLINE
    )
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return finished.stdout


def test_the_openai_package(bundled: Served, tmp_path: Path) -> None:
    python = program("openai", "python")
    with running(bundled) as url:
        assert done([python, "-c", OPENAI, url], tmp_path) == "finished\n"


def test_guidellm(bundled: Served, tmp_path: Path) -> None:
    guidellm = program("guidellm", "guidellm")
    with running(bundled) as url:
        backend = f"kind=openai_http,target={url},request_format=/v1/completions"
        command = [guidellm, "run", "--backend", backend, "--profile", "kind=concurrent,streams=2"]
        command += ["--constraint", "kind=max_requests,count=12"]
        command += ["--tokenizer", f"kind=huggingface_auto,model={MODEL}"]
        command += ["--data", "kind=synthetic_text,prompt_tokens=48,output_tokens=16"]
        done([*command, "--output", "kind=json,path=report.json", "--disable-console-interactive"], tmp_path)
    (benchmark,) = json.loads((tmp_path / "report.json").read_text())["benchmarks"]
    totals = benchmark["metrics"]["request_totals"]
    assert (totals["successful"], totals["errored"], totals["incomplete"]) == (12, 0, 0)
    assert benchmark["metrics"]["output_token_count"]["successful"]["mean"] == 16


def answers(folder: Path, task: str) -> dict[int, list[Any]]:
    """Return the responses of a task by document."""
    (file,) = folder.glob(f"**/samples_{task}_*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return {row["doc_id"]: row["filtered_resps"] for row in rows}


def test_lm_evaluation_harness_gives_the_same_scores(bundled: Served, tmp_path: Path) -> None:
    lm_eval = program("lm-eval", "lm_eval")
    tasks = write_tasks(tmp_path / "tasks", documents=12)
    shared = ["--tasks", TASKS, "--include_path", str(tasks), "--log_samples", "--output_path"]
    own = "runtime=eager,threads=1,add_bos_token=True,max_length=1022"  # it keeps two tokens less for new ones
    command = [sys.executable, "-m", "runtime_matrix.lm_eval", "--model_args", own, *shared]
    done([*command, str(tmp_path / "own")], ROOT)
    with running(bundled) as url:
        args = f"model=bundled,base_url={url}/v1/completions,tokenizer={MODEL},add_bos_token=True,max_length=1024"
        done([lm_eval, "--model", "local-completions", "--model_args", args, *shared, str(tmp_path / "http")], tmp_path)
    for task in TASKS.split(","):
        here, there = (answers(tmp_path / name, task) for name in ("own", "http"))
        assert here.keys() == there.keys()
        for document, responses in here.items():
            for own_answer, other in zip(_flat(responses), _flat(there[document]), strict=True):
                assert other == (
                    pytest.approx(own_answer, rel=1e-5, abs=1e-4) if isinstance(own_answer, float) else own_answer
                )


def _flat(responses: list[Any]) -> list[Any]:
    """Return the numbers and words of responses, which are logged as texts."""
    flat: list[Any] = []
    for response in responses:
        for part in response if isinstance(response, list) else [response]:
            try:
                flat.append(float(part))
            except ValueError:
                flat.append(part)
    return flat
