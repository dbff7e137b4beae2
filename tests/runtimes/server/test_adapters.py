"""A server that holds several adapters is asked for one by its name, and told apart from the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runtime_matrix.runtimes.base import Adapter, Hardware, ModelSource, Unsupported
from runtime_matrix.runtimes.engines.server.openai_server import OpenAIServer
from runtime_matrix.runtimes.engines.server.vllm import Vllm
from runtime_matrix.runtimes.requests import GenerateRequest
from tests.adapter_files import tensors, write
from tests.runtimes.server.conftest import TOY, Serving, load

NAMES = ("toy", "errands", "steps")


def over_toy(name: str) -> ModelSource:
    adapter = Adapter(name, Path(name), name, is_merged=False)
    return replace(TOY, digest=f"toy+{name}", adapter=adapter, base_digest="toy")


@pytest.mark.parametrize("name", NAMES[1:])
def test_the_name_is_sent_with_each_request(serving: Serving, name: str) -> None:
    fake = serving("vllm", names=NAMES)
    with OpenAIServer(url=fake.url) as runtime:
        load(runtime, over_toy(name))
        fake.forget()
        assert len(list(runtime.generate([GenerateRequest((9, 4, 7), 5), GenerateRequest((3, 2), 5)]))) == 2
        assert {body["model"] for body in fake.bodies} == {name}


def test_another_name_may_be_given(serving: Serving) -> None:
    fake = serving("vllm", names=NAMES)
    with OpenAIServer(url=fake.url, model="steps") as runtime:
        load(runtime, over_toy("a-folder-of-another-name"))
        assert {body["model"] for body in fake.bodies} == {"steps"}


def test_a_server_without_the_adapter_is_refused_in_one_line(serving: Serving) -> None:
    fake = serving("vllm", names=("toy",))
    with OpenAIServer(url=fake.url) as runtime, pytest.raises(Unsupported) as raised:
        load(runtime, over_toy("errands"))
    assert str(raised.value) == "the server has no model errands; it has toy"


@pytest.mark.parametrize(("rank", "least"), [(4, 8), (12, 16), (16, 16)])
def test_vllm_is_started_with_the_adapter_and_room_for_its_rank(tmp_path: Path, rank: int, least: int) -> None:
    folder = write(tmp_path / "errands", values=tensors(rank=rank), config={"r": rank})
    source = replace(over_toy("errands"), folder=tmp_path)
    source = replace(source, adapter=Adapter("errands", folder, "digest", is_merged=False))
    runtime = Vllm(python="python3", max_loras=2)
    assert runtime.prepare(source, Hardware("cpu", 1), None) == tmp_path  # type: ignore[arg-type]  # no phase is used
    words, _ = runtime.command(tmp_path, "served-1", 8123, Hardware("cpu", 1))
    line = " ".join(words)
    assert "--max-loras 2" in line
    assert f"--enable-lora --lora-modules served-1-errands={folder} --max-lora-rank {least}" in line
    assert runtime.served_name("served-1", source) == "served-1-errands"
    assert runtime._scoring_concurrency == 1
    assert runtime.served_name("served-1", source.base) == "served-1"
