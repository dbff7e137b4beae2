"""llama.cpp beside eager, and what it refuses; `test_contract` has the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.execution.worker.loading import make_runtime
from runtime_matrix.runtimes.base import Hardware, ModelSource, Runtime, Traits, Unsupported
from runtime_matrix.runtimes.engines import llamacpp_library
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.llamacpp import LlamaCpp
from runtime_matrix.runtimes.weights.gguf_blocks import Blocks
from tests.runtimes.test_gguf_file import random_llama

pytest.importorskip("xllamacpp")
MODEL = ModelSource("bundled", BUNDLED / "model")


def load(runtime: Runtime, artifacts: Path, model: ModelSource = MODEL) -> Traits:
    return runtime.load(model, Hardware("cpu", 1, artifacts), lambda name: nullcontext())


@pytest.fixture(scope="module")
def eager(artifacts: Path) -> Iterator[Eager]:
    with Eager() as runtime:
        load(runtime, artifacts)
        yield runtime


@pytest.fixture
def llama(artifacts: Path) -> Iterator[LlamaCpp]:
    with LlamaCpp() as runtime:
        load(runtime, artifacts)
        yield runtime


def prompts(rows: int, tokens: int) -> torch.Tensor:
    return torch.randint(2, 2048, (rows, tokens), generator=torch.Generator().manual_seed(7))


def logprobs(runtime: Runtime, ids_BT: torch.Tensor) -> torch.Tensor:
    """Return (B, T, V)."""
    rows, tokens = ids_BT.shape
    at_BK = torch.arange(tokens).expand(rows, tokens).contiguous()
    return runtime.forward(ids_BT, [tokens] * rows, None, at_BK).logits_BKV.log_softmax(-1)


def greedy(runtime: Runtime, ids_BT: torch.Tensor, steps: int) -> list[list[int]]:
    rows, tokens = ids_BT.shape
    cache = runtime.new_cache(rows, tokens + steps)
    next_B1 = runtime.forward(ids_BT, [tokens] * rows, cache).logits_BKV.argmax(-1)
    found = [next_B1]
    for _ in range(steps):
        next_B1 = runtime.forward(next_B1, [1] * rows, cache).logits_BKV.argmax(-1)
        found.append(next_B1)
    return torch.cat(found, dim=1).tolist()


def test_log_probabilities_and_greedy_tokens_are_eager_s(llama: LlamaCpp, eager: Eager) -> None:
    for rows, tokens in ((1, 40), (3, 100), (2, 300)):  # the last one takes two calls of the library
        ids_BT = prompts(rows, tokens)
        torch.testing.assert_close(logprobs(llama, ids_BT), logprobs(eager, ids_BT), atol=1e-4, rtol=0)
    assert greedy(llama, prompts(2, 30), 24) == greedy(eager, prompts(2, 30), 24)


@pytest.mark.parametrize(
    "options",
    [
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 5e4, "factor": 4.0}},
        {
            "rope_parameters": {
                **{"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0},
                **{"high_freq_factor": 4.0, "original_max_position_embeddings": 32},
            }
        },
        {"head_dim": 32, "attention_bias": True, "mlp_bias": True},
        {"tie_word_embeddings": True, "rms_norm_eps": 1e-3, "num_key_value_heads": 4},
    ],
    ids=["linear rope", "llama3 rope", "wide heads and biases", "tied"],
)
def test_other_llamas_are_eager_s_too(options: dict[str, Any], artifacts: Path) -> None:
    model, ids_BT, found = random_llama(**options, initializer_range=0.3), prompts(2, 60) % 96, []
    for runtime in (LlamaCpp(), Eager()):
        with runtime:
            load(runtime, artifacts, model)
            found.append(logprobs(runtime, ids_BT))
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=0)
    assert float(found[1].std()) > 0.1  # the rows differ enough for a wrong rotation to show


def test_rows_that_are_selected_rewound_or_branched_are_exact(llama: LlamaCpp) -> None:
    ids_BT = prompts(1, 20)
    cache = llama.new_cache(1, 40)
    llama.forward(ids_BT, [20], cache)
    step = prompts(1, 1)
    first = llama.forward(step, [1], cache).logits_BKV
    cache.rewind([20])
    assert torch.equal(llama.forward(step, [1], cache).logits_BKV, first)
    cache.rewind([20])
    selected, branch = cache.select([0, 0]), llama.branch(cache, 2, 4)
    for rows in (selected, branch):
        both = llama.forward(step.expand(2, 1).contiguous(), [1, 1], rows).logits_BKV
        torch.testing.assert_close(both, first.expand(2, 1, -1), atol=1e-5, rtol=0)
        assert rows.lengths == [21, 21]
    assert cache.lengths == [20]


def test_fewer_bits_are_further_away_and_still_near(eager: Eager, artifacts: Path) -> None:
    ids_BT = torch.tensor([eager_text()])
    exact, distances = logprobs(eager, ids_BT), []
    for kind in ("Q8_0", "Q4_0"):
        with LlamaCpp(weights=Blocks(kind)) as runtime:
            traits = load(runtime, artifacts)
            found = logprobs(runtime, ids_BT)
        distances.append(float((exact.exp() * (exact - found)).sum(-1).mean()))
        assert traits.weight_bytes is not None
        assert traits.weight_bytes < {"Q8_0": 0.28, "Q4_0": 0.17}[kind] * 13_640_704
    assert 0 < distances[0] < 1e-3 < distances[1] * 10 < 1


def eager_text() -> list[int]:
    """Return token ids of a text like those that the bundled model was trained on."""
    from tokenizers import Tokenizer

    text = (BUNDLED / "data" / "calibration.txt").read_text()[:600]
    ids: list[int] = Tokenizer.from_file(str(BUNDLED / "model" / "tokenizer.json")).encode(text).ids
    return ids


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_near_float32(dtype: str, eager: Eager, artifacts: Path) -> None:
    with LlamaCpp(dtype=dtype) as runtime:
        traits = load(runtime, artifacts)
        assert traits.dtype == dtype
        assert traits.weight_bytes is not None
        assert abs(traits.weight_bytes / 6_820_352 - 1) < 0.01
        found = logprobs(runtime, prompts(1, 50))
    distance = float((found - logprobs(eager, prompts(1, 50))).abs().max())
    assert 1e-4 < distance < 0.5


def test_flash_attention_is_noted_because_it_rounds(eager: Eager, artifacts: Path) -> None:
    with LlamaCpp(flash_attention=True) as runtime:
        assert load(runtime, artifacts).notes == ("flash attention computes in float16",)
        found = logprobs(runtime, prompts(1, 50))
    assert 0 < float((found - logprobs(eager, prompts(1, 50))).abs().max()) < 0.05


@pytest.mark.parametrize(
    ("words", "device", "says"),
    [
        ((), "cuda", "computes on the CPU only, not on cuda: use hw=cpu"),
        (("runtime.engine.kv_dtype=int3",), "cpu", "^kv_dtype=int3 is unknown: use float32, float16, bfloat16"),
        (("runtime.engine.max_sequences=300",), "cpu", "max_sequences=300 must be from 4 to 256"),
        (("runtime.engine.context_tokens=0",), "cpu", "context_tokens=0 must be positive or null"),
    ],
)
def test_what_it_cannot_do_is_refused_before_loading(words: tuple[str, ...], device: str, says: str) -> None:
    config: CellConfig = build(CellConfig, compose(["runtime=llamacpp", "model=random", *words]))
    with pytest.raises(Unsupported, match=says):
        make_runtime(config.runtime).check(Hardware(device, 1))


def test_a_dtype_that_gguf_lacks_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"dtype=float64 cannot be written as GGUF: use float32, float16, bfloat16"):
        LlamaCpp(dtype="float64").check(Hardware("cpu", 1))


def test_another_version_of_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2026.11.1")
    with pytest.raises(Unsupported, match=r"xllamacpp 2026.11.1 is installed, and its structs are known for 2026.10"):
        LlamaCpp().check(Hardware("cpu", 1))


@pytest.mark.parametrize(
    ("known", "name", "found"), [("MODEL_DEFAULTS", "split_mode", 1), ("CONTEXT_DEFAULTS", "n_ubatch", 512)]
)
def test_structs_with_other_defaults_are_refused(
    known: str, name: str, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, _ = llamacpp_library.opened()
    llamacpp_library.check_defaults(library)
    monkeypatch.setitem(getattr(llamacpp_library, known), name, 77)
    with pytest.raises(Unsupported, match=rf"\.{name} is {found} by default, not 77: its structs are not those of"):
        llamacpp_library.check_defaults(library)


def test_a_file_that_is_no_model_is_refused_in_one_line(
    tmp_path: Path, artifacts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(Unsupported, match=r"^llama.cpp cannot load broken.gguf: \S") as raised:
        load(LlamaCpp(), artifacts, ModelSource("broken", tmp_path / "broken.gguf"))
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")  # its log is not printed
