"""The contract of `test_contract.py` over a model with a window of 4 tokens: its tests run here with other fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.runtimes.test_contract import (  # noqa: F401  # pytest collects the tests, and finds the fixtures
    HERE,
    Subject,
    ids_BT,
    load,
    runtime,
    subject,
    test_a_row_makes_room_for_another,
    test_cache_equals_recompute_for_rows_of_different_length,
    test_contexts_that_do_not_fit_are_refused,
    test_logits_are_eager_s,
    test_many_rows_from_one_prefix_equal_separate_rows,
    test_outputs_that_the_traits_do_not_name_are_refused,
    test_prompts_in_chunks_equal_whole_prompts,
    test_rewound_rows_forget,
    test_rows_branch_from_one_prefix_without_a_copy,
    tolerance,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a random Mistral of two layers whose window is shorter than the rows of 8 tokens."""
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=128,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        sliding_window=4,
    )
    folder = tmp_path_factory.mktemp("windowed")
    MistralForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(
    scope="module",
    params=[
        *("eager", "eager_attention", "offload", "nf4"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("onnxruntime", "openvino", "placement tensor_parallel")
        ),
    ],
)
def loaded(request: pytest.FixtureRequest, model: Path, artifacts: Path) -> Iterator[Subject]:
    """Yield a runtime over the model with a window."""
    made = load(request.param, HERE[request.param], model, artifacts)
    yield Subject(f"{request.param} with a window", made.runtime, made.traits, made.case)
    made.runtime.close()
