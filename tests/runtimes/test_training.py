"""A training step is transformers' own, checkpointing changes no gradient, and the runtime stays as it was."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from typing import Any

import pytest
import torch

from runtime_matrix.runtimes.base import Adapter, Hardware, ModelSource, Unsupported
from runtime_matrix.runtimes.engines import torch_training
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.fake import Fake
from runtime_matrix.runtimes.engines.torch_training import why_untrainable
from runtime_matrix.runtimes.weights.full import Full, random_config
from tests.conftest import ROOT

CPU = Hardware("cpu", 1)
IDS_BT = torch.randint(0, 64, (2, 24), generator=torch.Generator().manual_seed(0))
ROWS = IDS_BT.tolist()
SHAPE = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def loaded(**more: Any) -> Eager:
    runtime = Eager()
    runtime.load(ModelSource("tiny", architecture={**SHAPE, **more}), CPU, lambda name: nullcontext())
    return runtime


def module_of(runtime: Eager) -> Any:
    return runtime._model.module


def copied(gradients: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: gradient.clone() for name, gradient in gradients.items()}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients_are_those_of_transformers(checkpointing: bool) -> None:
    from transformers import LlamaForCausalLM

    runtime = loaded()
    own = LlamaForCausalLM(random_config(SHAPE))
    own.load_state_dict(module_of(runtime).state_dict())
    loss = own(input_ids=IDS_BT, labels=IDS_BT).loss
    loss.backward()
    expected = pytest.approx(float(loss.detach()), rel=1e-6)
    with runtime.training() as training:
        training.set_checkpointing(checkpointing)
        training.step(ROWS)  # the gradients of the second step replace these
        assert training.step(ROWS) == expected
        gradients = training.gradients()
        assert gradients.keys() == dict(own.named_parameters()).keys()
        for name, weight in own.named_parameters():
            torch.testing.assert_close(gradients[name], weight.grad, rtol=1e-4, atol=1e-6)
        assert training.infer(ROWS) == expected


def test_checkpointing_computes_each_layer_again_in_the_backward_pass_alone() -> None:
    runtime, calls = loaded(), []
    attention = module_of(runtime).model.layers[1].self_attn
    attention.register_forward_hook(lambda *_: calls.append(1))
    counts = {}
    with runtime.training() as training:
        for checkpointing in (False, True):
            training.set_checkpointing(checkpointing)
            for work in (training.step, training.forward, training.infer):
                calls.clear()
                work(ROWS)
                counts[work.__name__, checkpointing] = len(calls)
    assert counts.pop(("step", True)) == 2
    assert set(counts.values()) == {1}


def test_dropout_is_the_same_on_both_sides_and_off_in_inference() -> None:
    with loaded(attention_dropout=0.3).training() as training:
        plain, gradients = training.step(ROWS), copied(training.gradients())
        assert training.infer(ROWS) != plain
        training.set_checkpointing(True)
        assert training.step(ROWS) == plain
        assert all(torch.equal(gradient, gradients[name]) for name, gradient in training.gradients().items())


def scores(runtime: Eager) -> torch.Tensor:
    return runtime.forward(IDS_BT, [24, 17]).logits_BKV


def test_afterwards_the_runtime_is_as_it_was_also_when_a_step_fails() -> None:
    runtime = loaded()
    module, before, random = module_of(runtime), scores(runtime), torch.get_rng_state()
    with suppress(RuntimeError), runtime.training() as training:
        training.set_checkpointing(True)
        training.step(ROWS)
        raise RuntimeError("stopped")
    assert torch.equal(scores(runtime), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(part.training for part in module.modules())
    assert not any(weight.requires_grad or weight.grad is not None for weight in module.parameters())
    assert not module.get_input_embeddings()._forward_hooks
    assert not any(getattr(part, "gradient_checkpointing", False) for part in module.modules())


def test_what_has_no_gradients_says_why() -> None:
    fake = Fake()
    with pytest.raises(Unsupported, match="this engine computes no gradients"):
        fake.training()
    packed = Eager()
    folder = ROOT / "tests" / "runtimes" / "checkpoints"
    assert why_untrainable(ModelSource("q", folder, stored_method="gptq"), Full(), None) == (
        "packed weights have no gradients: use runtime/weights=full and a model that is not quantized"
    )
    beside = Adapter("a", folder, "a", is_merged=False)
    assert "merge_adapter=true" in str(why_untrainable(ModelSource("m", adapter=beside), Full(), None))
    assert why_untrainable(ModelSource("m"), Full(), None) is None
    packed.load(ModelSource("tiny", architecture=SHAPE), CPU, lambda name: nullcontext())
    packed._model.untrainable = "why"
    with pytest.raises(Unsupported, match="why"):
        packed.training()


def test_an_architecture_without_checkpointing_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(loaded())
    monkeypatch.setattr(type(module), "supports_gradient_checkpointing", False)
    with (
        pytest.raises(Unsupported, match="LlamaForCausalLM of transformers does not support"),
        torch_training.training(module, "cpu"),
    ):
        pass
