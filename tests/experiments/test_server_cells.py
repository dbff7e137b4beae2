"""Whole cells over a server: failed items, missing capabilities, and the real llama_server beside eager."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.experiments.test_run import Run, records
from tests.runtimes.server.fake_openai_server import GOOD, FakeServer, Fault, Json
from tests.runtimes.server.toy_model import ToyModel

BUNDLED = ROOT / "experiments" / "bundled" / "model"
KEY = "sk-a-secret-of-the-user"
ALONE = ("comparison.enabled=false", "agreement.enabled=false", "progress=false")
PERPLEXITY = ("benchmark=[perplexity]", "benchmark.perplexity.window=32", "benchmark.perplexity.limit=6", *ALONE)


def fake_of(dialect: str, **options: Any) -> FakeServer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))
    return FakeServer(dialect, ToyModel(2048), tokenizer=tokenizer, max_length=1024, **options)


@pytest.fixture
def vllm_like() -> Iterator[FakeServer]:
    with fake_of("vllm", key=KEY) as fake:
        yield fake


@pytest.fixture
def llama_like() -> Iterator[FakeServer]:
    with fake_of("llama") as fake:
        yield fake


def words_of(fake: FakeServer) -> tuple[str, ...]:
    return ("runtime=server", f"runtime.engine.url={fake.url}", "runtime.engine.tries=1")


def entries(record: Any) -> dict[str, Any]:
    return {entry["benchmark"]: entry for entry in record["benchmarks"]}


def failures(folder: Path, name: str) -> list[Json]:
    (path,) = (folder / "runs").glob(f"*/failures-{name}.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_failed_requests_are_listed_and_asked_again(
    run: Run, vllm_like: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    # launch=exec: a fork server that an earlier test has started does not have the key.
    words = (*words_of(vllm_like), *PERPLEXITY, f"artifacts_dir={tmp_path / 'artifacts'}", "launch=exec")

    def refuse(number: int, body: Json) -> Fault:
        is_window = "prompt_logprobs" in body and len(body["prompt"][0]) == 32
        return Fault(status=400, message=f"no room for {KEY}") if is_window and _is_odd(body) else GOOD

    vllm_like.faults = refuse
    done = run(*words)
    windows = [body for body in vllm_like.bodies if "prompt_logprobs" in body and len(body["prompt"][0]) == 32]
    odd = [_is_odd(body) for body in windows]
    assert (len(odd), 0 < sum(odd) < 6) == (6, True)
    assert done.returncode == 1, done.stdout + done.stderr
    (record,) = records(tmp_path)
    reason = f"{sum(odd)} of 6 requests failed, the first: HTTP 400: no room for ***"
    assert (record["status"], reason in str(record["reason"])) == ("error", True)
    assert entries(record)["perplexity"]["status"] == "failed"
    assert not entries(record)["perplexity"]["figures"]
    listed = failures(tmp_path, "perplexity")
    assert [(line["result"], line["reason"]) for line in listed] == [(None, "HTTP 400: no room for ***")] * sum(odd)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]

    vllm_like.faults = lambda number, body: GOOD
    vllm_like.forget()
    done = run(*words, "resume=true")
    assert done.returncode == 0, done.stdout + done.stderr
    again = [body["prompt"] for body in vllm_like.bodies if "prompt_logprobs" in body and len(body["prompt"][0]) == 32]
    assert sorted(again) == sorted(body["prompt"] for body in windows if _is_odd(body))
    figures = entries(records(tmp_path)[1])["perplexity"]["figures"]
    assert figures["cached_responses"] == 6 - sum(odd)
    assert figures["perplexity"] > 1


def _is_odd(body: Json) -> bool:
    return bool(sum(body["prompt"][0]) % 2)


def test_failed_texts_are_listed_and_a_missing_capability_skips(
    run: Run, llama_like: FakeServer, tmp_path: Path
) -> None:
    refused: list[Json] = []

    def refuse(number: int, body: Json) -> Fault:
        if body.get("n_predict") != 9 or refused:
            return GOOD
        refused.append(body)
        return Fault(change=lambda reply: {**reply, "tokens_evaluated": 3})

    llama_like.faults = refuse
    words = ("benchmark=[perplexity,code]", "benchmark.code.limit=3", "benchmark.code.max_new_tokens=9")
    done = run(*words_of(llama_like), *words, "comparison.enabled=false", f"artifacts_dir={tmp_path / 'artifacts'}")
    assert done.returncode == 1, done.stdout + done.stderr
    (record,) = records(tmp_path)
    found = {name: (entry["status"], str(entry["reason"])) for name, entry in entries(record).items()}
    assert found["agreement"] == ("skipped", "the engine takes whole requests and gives no logits")
    assert found["perplexity"][0] == "skipped"
    assert "the server gives no log-probabilities of prompts" in found["perplexity"][1]
    assert found["code"][0] == "failed"
    assert "1 of 3 requests failed, the first: the server counts 3 tokens in a prompt of" in found["code"][1]
    assert [line["result"] for line in failures(tmp_path, "code")] == [None]
    assert record["load"]["takes_whole_requests"] is True  # type: ignore[index]


@pytest.mark.slow
def test_a_server_that_is_not_there_is_named_in_one_line(run: Run, tmp_path: Path) -> None:
    urls = "runtime.engine.url=null,http://127.0.0.1:9"
    done = run("-m", "runtime=server", urls, *PERPLEXITY)
    assert done.returncode == 3, done.stdout + done.stderr
    found = {(record["status"], record["reason"]) for record in records(tmp_path)}
    assert found == {
        ("unsupported", "set runtime.engine.url=http://HOST:PORT, or a list of addresses"),
        (
            "unsupported",
            "no server answers at http://127.0.0.1:9: start the server, or correct runtime.engine.url",
        ),
    }


def test_the_real_server_answers_as_eager_does(run: Run, tmp_path: Path, artifacts: Path) -> None:
    """Texts, letters by the likeliest next tokens, and timed tokens that the reference would choose too."""
    pytest.importorskip("xllamacpp", reason="needs the extra llamacpp")
    words = (
        *("benchmark=[latency,code,multiple_choice]", "comparison.enabled=false"),
        *("benchmark.latency.prompt_tokens=16", "benchmark.latency.new_tokens=8", "benchmark.latency.iterations=3"),
        *("benchmark.code.limit=3", "benchmark.code.max_new_tokens=16"),
        *("benchmark.multiple_choice.limit=5", "benchmark.multiple_choice.style=letters"),
    )
    before = set((artifacts.parent / "servers").glob("server-*.log"))
    done = run("-m", "runtime=eager,llama_server", *words, f"artifacts_dir={artifacts}")
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[Any] = list(records(tmp_path))
    eager, served = sorted(found, key=lambda record: record["runtime"]["name"])
    assert [record["status"] for record in (eager, served)] == ["ok", "ok"]
    ours, theirs = entries(served), entries(eager)
    assert ours["agreement"]["status"] == "skipped"
    assert {name: entry["status"] for name, entry in ours.items() if name != "agreement"} == dict.fromkeys(
        ("latency", "code", "multiple_choice"), "ok"
    )
    folders = {record["runtime"]["name"]: tmp_path / "runs" / record["record_id"] for record in (eager, served)}
    texts = {name: _items(folder, "code") for name, folder in folders.items()}
    assert texts["llama_server"] == texts["eager"]
    scores = {name: _items(folder, "multiple_choice") for name, folder in folders.items()}
    for own, other in zip(scores["llama_server"], scores["eager"], strict=True):
        assert own["predicted"] == other["predicted"]
        assert own["logprobs"] == pytest.approx(other["logprobs"], abs=1e-3)
    replay = served["replay"]
    assert replay["tokens"] == replay["same_top_tokens"] == 8
    assert len(ours["latency"]["samples"]["ttft_s"]) == len(theirs["latency"]["samples"]["ttft_s"]) == 3
    assert served["load"]["peak_host_bytes"] > 0  # a child of the cell's process is counted
    (log,) = set((artifacts.parent / "servers").glob("server-*.log")) - before
    assert "loading model" in log.read_text()


def _items(folder: Path, name: str) -> list[Json]:
    (path,) = folder.glob(f"items-{name}*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]
