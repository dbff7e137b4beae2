"""llama.cpp's real server over the bundled model: its answers are eager's, and its process never outlives it."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.config.schema import GenerationConfig, ScoringConfig
from runtime_matrix.experiments.evaluation.faces import Face, face_of
from runtime_matrix.experiments.evaluation.generation import GenerationReport
from runtime_matrix.experiments.evaluation.prefix_cache import Tally
from runtime_matrix.runtimes.base import Hardware, ModelSource, Unsupported
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.server import child, probing, started
from runtime_matrix.runtimes.engines.server.llama_server import LlamaServer
from runtime_matrix.runtimes.http_calls import CallFailed
from runtime_matrix.runtimes.requests import Failed, Generated, GenerateRequest, Scored, ScoreRequest
from tests.runtimes.server.test_child import ends, is_running

pytest.importorskip("xllamacpp", reason="needs the extra llamacpp")
Bundled = tuple[ModelSource, Any]


def load(runtime: Any, source: ModelSource, artifacts: Path) -> Any:
    return runtime.load(source, Hardware("cpu", 1, artifacts), lambda name: nullcontext())


@pytest.fixture(scope="module")
def served(bundled: Bundled, artifacts: Path) -> Iterator[LlamaServer]:
    with LlamaServer(slots=4, concurrency=4) as runtime:
        load(runtime, bundled[0], artifacts)
        yield runtime


@pytest.fixture(scope="module")
def faces(served: LlamaServer, bundled: Bundled, artifacts: Path) -> Iterator[tuple[Face, Face]]:
    """Return the server's face and eager's."""
    with Eager() as eager:
        traits = load(eager, bundled[0], artifacts)
        yield face_of(served, traits), face_of(eager, traits)


def test_what_the_server_does(served: LlamaServer) -> None:
    can = served.capabilities
    assert (can.takes_ids, can.returns_ids, can.streams, can.seeds) == (True, True, True, True)
    assert (can.prompt_logprobs, can.top_logprobs, can.end_of_text) == (False, 2048, "banned")
    assert "tokens_predicted" in " ".join(served.metrics())


def test_texts_are_eager_s(faces: tuple[Face, Face], bundled: Bundled) -> None:
    tokenizer = bundled[1]
    prompts = ["Once upon a time", "def add(a, b):\n", "The capital of", "# Reads a file"]
    asked = [GenerateRequest(tuple(tokenizer.encode(text).ids), 24, stop=("\n\n",)) for text in prompts]
    assert written(faces[0], asked, tokenizer) == written(faces[1], asked, tokenizer)


def written(face: Face, asked: list[GenerateRequest], tokenizer: Any) -> dict[int, Any]:
    texts: dict[int, Any] = {}

    def new_text(ids: Any) -> Any:
        return lambda token: tokenizer.decode([token])

    def keep(index: int, sample: int, result: Generated | Failed) -> None:
        assert isinstance(result, Generated), result
        texts[index] = (result.ids, result.text)

    face.generate(asked, new_text, (1,), GenerationConfig(), keep, GenerationReport())
    return texts


def test_decoded_tokens_are_eager_s(faces: tuple[Face, Face]) -> None:
    source = random.Random(5)
    prompts = [[source.randrange(8, 2048) for _ in range(20)] for _ in range(3)]
    steps: list[int] = []
    ours = faces[0].decode(prompts, 16, lambda: steps.append(1)).tokens
    assert len(steps) == 16
    theirs = faces[1].decode(prompts, 16).tokens
    assert [len(ids) for ids in ours] == [16] * 3
    # A banned end of text changes a text from there on.
    banned = faces[0].banned([0, 1])
    assert banned == {0, 1}
    for own, other in zip(ours, theirs, strict=True):
        at = next((place for place, token in enumerate(other) if token in banned), 16)
        assert own[:at] == other[:at]


def test_last_tokens_are_scored_as_by_eager(faces: tuple[Face, Face]) -> None:
    source = random.Random(6)
    stems = [tuple(source.randrange(8, 2048) for _ in range(12)) for _ in range(3)]
    asked = [ScoreRequest((*stem, letter), 12, stem[:5]) for stem in stems for letter in (30, 31, 32, 2047)]
    ours, theirs = scored(faces[0], asked), scored(faces[1], asked)
    for own, other in zip(ours, theirs, strict=True):
        assert own.logprobs == pytest.approx(other.logprobs, abs=1e-3)
        assert own.top1_margins == pytest.approx(other.top1_margins, abs=1e-3)


def scored(face: Face, asked: list[ScoreRequest]) -> list[Scored]:
    found = {index: result for batch in face.score(asked, ScoringConfig(), Tally()) for index, result in batch}
    assert all(isinstance(result, Scored) for result in found.values())
    return [result for _, result in sorted(found.items()) if isinstance(result, Scored)]


def test_a_prompt_beyond_the_context_fails_alone(served: LlamaServer) -> None:
    long = GenerateRequest(tuple(range(8, 1400)), 4)
    found = {index: result for index, _, result in served.generate([long, replace(long, ids=(9, 10, 11))])}
    failed, good = found[0], found[1]
    assert isinstance(failed, Failed)
    assert failed.reason.startswith("HTTP 400: ")
    assert isinstance(good, Generated)


def test_equal_seeds_give_equal_samples(served: LlamaServer) -> None:
    asked = GenerateRequest((9, 10, 11), 12, temperature=1.0, seeds=(1, 2, 1))
    found = {sample: result for _, sample, result in served.generate([asked])}
    assert found[0] == found[2] != found[1]


def test_the_process_and_its_log(bundled: Bundled, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The port that is tried first is taken: the next one is used."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        free, taken = child.free_port, [other.getsockname()[1]]
        monkeypatch.setattr(started, "free_port", lambda: taken.pop() if taken else free())
        runtime = LlamaServer(slots=1)
        with runtime:
            load(runtime, bundled[0], artifacts)
            process = runtime._process
            assert process is not None
            assert is_running(process.pid)
        assert ends(process.pid)
    assert not taken
    assert process.log.parent == artifacts.parent / "servers"
    assert "loading model" in process.log.read_text()


def test_the_process_ends_with_a_load_that_fails(
    bundled: Bundled, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: probing.Probe) -> None:
        raise CallFailed("no")

    monkeypatch.setattr(probing.Probe, "run", fail)
    runtime = LlamaServer(slots=1)
    with pytest.raises(Unsupported, match="the server generates nothing: no"):
        load(runtime, bundled[0], artifacts)
    assert runtime._process is not None
    assert ends(runtime._process.pid)


def test_a_file_that_is_no_model_is_named_from_the_log(
    bundled: Bundled, artifacts: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "junk.gguf").write_bytes(b"junk" * 100)
    monkeypatch.setattr(LlamaServer, "prepare", lambda *words: tmp_path / "junk.gguf")
    runtime = LlamaServer(slots=1, slot_tokens=64)
    with pytest.raises(Unsupported) as raised:
        load(runtime, bundled[0], artifacts)
    assert str(raised.value).startswith("the server ended with code ")
    assert "\n" not in str(raised.value)
    assert "junk.gguf" in str(raised.value) or "magic" in str(raised.value)


@pytest.mark.parametrize(
    ("options", "hw", "message"),
    [
        ({"slots": 0}, Hardware("cpu", 1), "runtime.engine.slots=0 must be positive"),
        ({"concurrency": 0}, Hardware("cpu", 1), "runtime.engine.concurrency=0 must be at least 1"),
        ({}, Hardware("cuda", 1), "the wheel of xllamacpp computes on the CPU only, not on cuda: use hw=cpu"),
    ],
    ids=str,
)
def test_a_mistake_is_named_before_anything_is_started(options: Any, hw: Hardware, message: str) -> None:
    with pytest.raises(Unsupported) as raised:
        LlamaServer(**options).check(hw)
    assert str(raised.value) == message


def test_slots_hold_what_is_asked_for_and_rows_of_that_length_are_scored(bundled: Bundled, artifacts: Path) -> None:
    source = replace(bundled[0], max_tokens=256)  # llama.cpp reserves slots in steps of 256 tokens
    with LlamaServer(slots=2, prefix_cache=False) as runtime:
        assert load(runtime, source, artifacts).max_length < 1024
        words, _ = runtime.command(artifacts, "served", 8123, Hardware("cpu", 1))
        assert json.loads(words[-1])["slot_tokens"] == 258
        row = tuple(random.Random(0).randrange(8, 2048) for _ in range(257))
        ((_, scored),) = runtime.score([ScoreRequest(row, 256)])
        assert isinstance(scored, Scored)
    unlimited = LlamaServer(slots=1)
    unlimited.prepare(bundled[0], Hardware("cpu", 1, artifacts), lambda name: nullcontext())
    assert unlimited._slot_tokens == 1024
