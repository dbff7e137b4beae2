"""llama.cpp's keys and values in fewer bits: their size, that prompts are computed through them, refusals."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.runtimes.base import Hardware, ModelSource, Traits, Unsupported
from runtime_matrix.runtimes.engines import llamacpp_kv
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.llamacpp import LlamaCpp
from runtime_matrix.runtimes.engines.server.llama_server import LlamaServer

MODEL = ModelSource("bundled", BUNDLED / "model")
TOKENS = 120
CELL_BYTES = 12  # of a token in a stored sequence, besides its keys and values: position and sequence
SMALL = {"model_type": "llama", "num_hidden_layers": 3, "num_attention_heads": 6, "hidden_size": 96}


@dataclass(frozen=True)
class Run:
    """The log-probabilities (T, V) of a text: as one prompt, and token by token; and bytes of a token in the cache."""

    prompt_TV: torch.Tensor
    steps_TV: torch.Tensor
    token_bytes: int
    traits: Traits


@pytest.fixture(scope="module")
def runs(artifacts: Path) -> dict[str, Run]:
    pytest.importorskip("xllamacpp", reason="needs the extra llamacpp")
    return {name: run_of(name, artifacts) for name in ("float32", "float16", "q8_0", "q4_0")}


def run_of(kv_dtype: str, artifacts: Path) -> Run:
    ids_BT = torch.randint(2, 2048, (1, TOKENS), generator=torch.Generator().manual_seed(7))
    with LlamaCpp(kv_dtype=kv_dtype, flash_attention=kv_dtype != "float32") as runtime:
        traits = runtime.load(MODEL, Hardware("cpu", 1, artifacts), lambda name: nullcontext())
        prompt_TV = runtime.forward(ids_BT, [TOKENS], None, torch.arange(TOKENS)[None]).logits_BKV[0]
        cache, steps = runtime.new_cache(1, TOKENS + 1), []
        for token in ids_BT.split(1, dim=1):
            steps.append(runtime.forward(token, [1], cache).logits_BKV[0, 0])
        held = len(cache.context._state(0))
        runtime.forward(ids_BT[:, :1], [1], cache)
        grown = len(cache.context._state(0)) - held
    return Run(prompt_TV.log_softmax(-1), torch.stack(steps).log_softmax(-1), grown, traits)


def divergence(first_TV: torch.Tensor, second_TV: torch.Tensor) -> float:
    return float((first_TV.exp() * (first_TV - second_TV)).sum(-1).mean())


@pytest.mark.parametrize(("name", "expected"), [("float32", 4096), ("float16", 2048), ("q8_0", 1088), ("q4_0", 576)])
def test_a_token_takes_the_declared_bytes(runs: dict[str, Run], name: str, expected: int) -> None:
    assert runs[name].traits.kv_dtype == name
    assert runs[name].traits.kv_bytes_per_token == expected == runs[name].token_bytes - CELL_BYTES


@pytest.mark.parametrize("name", ["q8_0", "q4_0"])
def test_a_prompt_attends_to_its_rounded_keys_and_values(runs: dict[str, Run], name: str) -> None:
    """Otherwise scores of texts, which are prompts, would not show what generated tokens lose."""
    lost = divergence(runs["float32"].steps_TV, runs[name].steps_TV)
    assert divergence(runs["float32"].steps_TV, runs[name].prompt_TV) == pytest.approx(lost, rel=0.05)
    assert abs(divergence(runs[name].steps_TV, runs[name].prompt_TV)) < lost / 50


def test_fewer_bits_diverge_more(runs: dict[str, Run]) -> None:
    exact = runs["float32"].prompt_TV
    lost = [divergence(exact, runs[name].prompt_TV) for name in ("float16", "q8_0", "q4_0")]
    assert 0 < 4 * lost[0] < lost[1] < lost[2] / 10
    assert lost[1] < 1e-2


@pytest.mark.parametrize("engine", ["llamacpp", "llama_server"])
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("kv_dtype=int3",), r"kv_dtype=int3 is unknown: use float32, float16, bfloat16, q8_0, q4_0$"),
        (("kv_dtype=q8_0",), r"kv_dtype=q8_0 needs flash_attention=true: llama.cpp quantizes values with it alone$"),
    ],
)
def test_a_mistake_in_the_options_is_one_of_the_configuration(engine: str, words: tuple[str, ...], says: str) -> None:
    for part in ("runtime", "reference"):
        group = "runtime" if part == "runtime" else "runtime@reference"
        with pytest.raises(UserError, match=rf"^{part}\.engine\.{says}"):
            plan(compose([f"{group}={engine}", "model=random", *(f"{part}.engine.{word}" for word in words)]), "test")


@pytest.mark.parametrize("kind", [LlamaCpp, LlamaServer])
def test_heads_that_are_no_blocks_are_refused_before_anything_is_written(
    kind: type[LlamaCpp | LlamaServer], tmp_path: Path
) -> None:
    pytest.importorskip("xllamacpp", reason="needs the extra llamacpp")
    runtime = kind(kv_dtype="q8_0", flash_attention=True)
    with pytest.raises(
        Unsupported, match=r"^runtime.engine.kv_dtype=q8_0 has blocks of 32 values, and the model's hea"
    ):
        runtime.load(ModelSource("small", architecture=SMALL), Hardware("cpu", 1, tmp_path), lambda name: nullcontext())
    assert not list(tmp_path.iterdir())


def test_heads_of_any_width_have_floats() -> None:
    model = ModelSource("small", architecture=SMALL)
    llamacpp_kv.check_model(model, "float16")
    assert llamacpp_kv.bytes_per_token(model, "float16") == 3 * 6 * 2 * 16 * 2
    assert llamacpp_kv.bytes_per_token(ModelSource("other", architecture={"model_type": "x"}), "float16") is None


def test_the_shape_of_a_gguf_file_is_that_of_the_model(runs: dict[str, Run], tmp_path: Path) -> None:
    with LlamaCpp() as runtime:
        runtime.load(MODEL, Hardware("cpu", 1, tmp_path), lambda name: nullcontext())
    (file,) = tmp_path.rglob("model.gguf")
    assert llamacpp_kv.shape_of(ModelSource("file", file)) == llamacpp_kv.shape_of(MODEL)


def test_the_server_has_the_type(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xllamacpp", reason="needs the extra llamacpp")
    monkeypatch.setattr(llamacpp_kv, "check_options", lambda options: None)
    with pytest.raises(Unsupported, match=r"^the server ended with code"):  # it received q8_0, which it refuses so
        LlamaServer(slots=1, slot_tokens=128, kv_dtype="q8_0").load(
            MODEL, Hardware("cpu", 1, artifacts), lambda name: nullcontext()
        )
    with LlamaServer(slots=1, slot_tokens=128, kv_dtype="q8_0", flash_attention=True) as runtime:
        traits = runtime.load(MODEL, Hardware("cpu", 1, artifacts), lambda name: nullcontext())
        assert (traits.kv_dtype, traits.kv_bytes_per_token) == ("q8_0", 1088)


@pytest.mark.parametrize(("dtype", "expected"), [("float32", 4096), ("bfloat16", 2048)])
def test_the_slots_of_eager_have_its_dtype(dtype: str, expected: int, artifacts: Path) -> None:
    with Eager(dtype=dtype) as runtime:
        traits = runtime.load(MODEL, Hardware("cpu", 1, artifacts), lambda name: nullcontext())
    assert (traits.kv_dtype, traits.kv_bytes_per_token) == (dtype, expected)
