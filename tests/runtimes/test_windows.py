"""Sliding windows shorter than the sequences: every engine gives the logits of plain transformers.

Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime_matrix.runtimes.base import Hardware, LoadRequest, ModelSource, Runtime, Traits, Unsupported
from runtime_matrix.runtimes.engines.compiled import Compiled
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.graph_forms import Static
from runtime_matrix.runtimes.engines.observed_form import Observed
from runtime_matrix.runtimes.engines.onnxruntime import OnnxRuntime
from runtime_matrix.runtimes.weights.full import Full
from runtime_matrix.runtimes.windows import Windows, problem
from tests.runtimes import full_attentions

SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
GEMMA = {"model_type": "gemma3_text", "head_dim": 8, "sliding_window": 5, "sliding_window_pattern": 2}
# In mistral, phi3 and starcoder2 all layers have the window, in qwen2 all but the first, in gemma3 every second.
MODELS: dict[str, dict[str, Any]] = {
    "mistral": {"model_type": "mistral", "sliding_window": 4},
    "phi3": {"model_type": "phi3", "sliding_window": 6, "pad_token_id": 0},
    "starcoder2": {"model_type": "starcoder2", "sliding_window": 5},
    "qwen2": {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
    "gemma3": {"model_type": "gemma3_text", "head_dim": 8, "sliding_window": 5, "sliding_window_pattern": 2},
}


def uncompiled() -> Compiled:
    return Compiled(compile_graph=lambda graph, mode, hw: graph)


RUNTIMES: dict[str, tuple[Callable[[], Runtime], str]] = {
    **{name: (Eager, name) for name in MODELS},
    "gemma3 eager attention": (lambda: Eager(attention="eager"), "gemma3"),
    "gemma3 compile": (uncompiled, "gemma3"),
    "mistral compile": (uncompiled, "mistral"),
    "gemma3 onnxruntime": (OnnxRuntime, "gemma3"),
    "mistral onnxruntime": (OnnxRuntime, "mistral"),
}
SLOW = ("mistral onnxruntime",)
LENGTHS = [23, 14]


def source(name: str) -> ModelSource:
    return ModelSource(f"window {name}", architecture=SIZES | MODELS[name])


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in RUNTIMES],
)
def subject(request: pytest.FixtureRequest, artifacts: Path) -> Iterator[tuple[Runtime, Traits, Any]]:
    """Yield a runtime, its traits, and the logits function of plain transformers over the same weights."""
    make, name = RUNTIMES[request.param]
    runtime, hardware = make(), Hardware("cpu", 1, artifacts)
    traits = runtime.load(source(name), hardware, lambda phase: nullcontext())
    yield runtime, traits, plain(name)
    runtime.close()


def plain(name: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(**(SIZES | MODELS[name]))
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def ids_BT() -> torch.Tensor:
    return torch.randint(3, 120, (2, LENGTHS[0]), generator=torch.Generator().manual_seed(1))


def expected_logits(module: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = module(ids[None]).logits[0]
    return logits


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_a_long_prefill_of_rows_of_different_lengths(subject: tuple[Any, ...], ids_BT: torch.Tensor) -> None:
    runtime, _, module = subject
    at_BK = torch.tensor([[3, 9, 22], [3, 9, 13]])
    found = runtime.forward(ids_BT, LENGTHS, None, at_BK).logits_BKV
    for row, length in enumerate(LENGTHS):
        close(found[row], expected_logits(module, ids_BT[row, :length])[at_BK[row]])


def test_steps_far_beyond_the_window_equal_a_prefill(subject: tuple[Any, ...], ids_BT: torch.Tensor) -> None:
    """One row, then rows of different lengths, after `select`, `rewind` and `replace`."""
    runtime, _, module = subject
    whole = [expected_logits(module, ids_BT[row, :]) for row in range(2)]
    cache = runtime.new_cache(1, 40)
    runtime.forward(ids_BT[:1, :3], [3], cache)
    for token in range(3, 20):
        close(runtime.forward(ids_BT[:1, token : token + 1], [1], cache).logits_BKV[0, 0], whole[0][token])
    both = cache.select([0, 0])
    both.rewind([17, 9])
    other = runtime.new_cache(1, 40)
    runtime.forward(ids_BT[1:, :9], [9], other)
    both.replace([1], other)
    for step in range(5):
        new = torch.stack([ids_BT[0, 17 + step], ids_BT[1, 9 + step]])[:, None]
        found = runtime.forward(new, [1, 1], both).logits_BKV[:, 0]
        close(found, torch.stack([whole[0][17 + step], whole[1][9 + step]]))


def test_several_tokens_after_a_cache_of_different_lengths(subject: tuple[Any, ...], ids_BT: torch.Tensor) -> None:
    runtime, _, module = subject
    whole = [expected_logits(module, ids_BT[row]) for row in range(2)]
    cache = runtime.new_cache(2, 40)
    runtime.forward(ids_BT[:, :10], [10, 4], cache)
    new = torch.stack([ids_BT[0, 10:16], ids_BT[1, 4:10]])
    at_BK = torch.tensor([[0, 5], [2, 4]])
    found = runtime.forward(new, [6, 5], cache, at_BK).logits_BKV
    close(found, torch.stack([whole[0][[10, 15]], whole[1][[6, 8]]]))
    last = torch.stack([ids_BT[0, 16], ids_BT[1, 9]])[:, None]
    close(runtime.forward(last, [1, 1], cache).logits_BKV[:, 0], torch.stack([whole[0][16], whole[1][9]]))


def test_a_shared_prefix_is_limited_to_each_token_s_window(subject: tuple[Any, ...], ids_BT: torch.Tensor) -> None:
    runtime, traits, module = subject
    if not traits.shares_prefix:
        assert not isinstance(runtime, OnnxRuntime)
        pytest.skip("the engine declares that it shares no prefix of a model with windows")
    trunk = runtime.new_cache(1, 12)
    runtime.forward(ids_BT[:1, :11], [11], trunk)
    branch = runtime.branch(trunk, 2, 12)
    rows = [torch.cat([ids_BT[0, :11], ids_BT[row, 11:]]) for row in range(2)]
    whole = [expected_logits(module, row) for row in rows]
    new = torch.stack([row[11:19] for row in rows])
    at_BK = torch.tensor([[0, 7], [2, 4]])
    found = runtime.forward(new, [8, 5], branch, at_BK).logits_BKV
    close(found, torch.stack([whole[0][[11, 18]], whole[1][[13, 15]]]))
    last = torch.stack([rows[0][19], rows[1][16]])[:, None]
    close(runtime.forward(last, [1, 1], branch).logits_BKV[:, 0], torch.stack([whole[0][19], whole[1][16]]))


def test_a_window_that_no_row_exceeds_is_none(artifacts: Path) -> None:
    model = ModelSource("wide", architecture=SIZES | MODELS["mistral"] | {"sliding_window": 256})
    with Eager() as runtime:
        assert runtime.load(model, Hardware("cpu", 1, artifacts), lambda phase: nullcontext()).shares_prefix
    with Eager() as runtime:
        assert not runtime.load(source("mistral"), Hardware("cpu", 1, artifacts), lambda name: nullcontext()).packs_rows


@pytest.mark.parametrize("name", ["mistral", "gemma3"])
def test_the_graph_with_fixed_slots_has_the_window(name: str, ids_BT: torch.Tensor, artifacts: Path) -> None:
    module = Full().load(LoadRequest(source(name), "float32", "sdpa", Hardware("cpu", 1, artifacts)))
    graph = Static().graph(module)
    held = [torch.zeros(1, 2, 32, 8) for _ in range(2 * 3)]
    expected = expected_logits(plain(name), ids_BT[0])
    for part in (slice(0, 12), slice(12, 13), slice(13, 20)):
        positions_1T = torch.arange(part.start, part.stop)[None]
        at_11 = torch.tensor([[part.stop - part.start - 1]])
        logits, *held = graph(ids_BT[:1, part], positions_1T, at_11, torch.arange(32), held)
        close(logits[0, 0], expected[part.stop - 1])


@pytest.mark.parametrize("attention", ["sdpa", "eager", "exported"])
def test_attentions_are_observed_within_the_window(attention: str, ids_BT: torch.Tensor, artifacts: Path) -> None:
    """The window of 4 tokens sees a part of the context at token 14, and no token of it at token 20."""
    hardware, context, at = Hardware("cpu", 1, artifacts), range(2, 13), [14, 20]
    if attention == "exported":
        module = Full().load(LoadRequest(source("mistral"), "float32", "sdpa", hardware))
        context_12 = torch.tensor([[context.start, context.stop]])
        with torch.inference_mode():
            _, external, knowledge = Observed().graph(module)(ids_BT[:1], torch.tensor([at]), context_12)
    else:
        with Eager(attention=attention) as runtime:
            outputs = runtime.load(source("mistral"), hardware, lambda phase: nullcontext()).outputs
            found = runtime.forward(
                ids_BT[:1], [LENGTHS[0]], None, torch.tensor([at]), outputs=outputs, contexts=[context]
            )
        assert found.external_context_BKLH is not None
        assert found.parametric_knowledge_BKL is not None
        external, knowledge = found.external_context_BKLH, found.parametric_knowledge_BKL
    expected, expected_knowledge = full_attentions.scores(plain("mistral"), ids_BT[0], at, context)
    close(external[0, 0], expected[0])
    assert (external[0, 1] == 0).all()
    close(knowledge[0], expected_knowledge)


LAYERS = {"num_hidden_layers": 2, "max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"layer_types": ["full_attention", "linear_attention"]}, "layers of the types linear_attention: supported"),
        ({"layer_types": ["chunked_attention"]}, "layers of the types chunked_attention"),
        ({"attention_chunk_size": 8192}, "chunked attention"),
        ({"model_type": "mamba"}, "a mamba has recurrent layers, whose state cannot be rewound"),
        ({"sliding_window": 0}, "sliding_window must be a number of tokens, 1 or more; .* has 0$"),
        ({"sliding_window": 4.0}, "has 4.0$"),
        ({"sliding_window": "4"}, "has '4'$"),
        ({"sliding_window": True}, "has True$"),
        ({"sliding_window": None, "layer_types": ["sliding_attention"]}, "has None$"),
        ({"use_bidirectional_attention": True}, "attends to later tokens"),
        ({"num_kv_shared_layers": 1}, "share keys and values"),
    ],
)
def test_layers_that_no_engine_keeps_are_one_line(config: dict[str, Any], reason: str) -> None:
    found = problem(config)
    assert found is not None
    assert re.search(reason, found)
    assert "\n" not in found


@pytest.mark.parametrize(
    "config",
    [{}, {"sliding_window": None}, {"sliding_window": 1}, {"use_sliding_window": False, "sliding_window": 0}, LAYERS],
)
def test_other_layers_are_kept(config: dict[str, Any]) -> None:
    assert problem(config) is None


def test_windows_that_transformers_does_not_compute_are_none_or_refused() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = SIZES | {"num_hidden_layers": 2, "sliding_window": 4}
    typed_layers: dict[str, Any] = {"layer_types": ["sliding_attention"] * 2}
    with torch.device("meta"):
        ignored = LlamaForCausalLM(LlamaConfig(**sizes))
        typed = LlamaForCausalLM(LlamaConfig(**sizes, **typed_layers))
    assert Windows.of(ignored) == Windows()
    with pytest.raises(Unsupported, match=r"^transformers computes the sliding_attention of a llama in a way of its "):
        Windows.of(typed)
