"""A LoRA adapter beside the weights computes what PEFT does, merged the same up to rounding; closed, it is gone."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from runtime_matrix.runtimes.base import Adapter, Hardware, ModelSource, Unsupported
from runtime_matrix.runtimes.engines.eager import Eager
from tests.adapter_files import tensors, write
from tests.conftest import ROOT

pytest.importorskip("peft", reason="the extra adapters is not installed")
MODEL = ROOT / "experiments" / "bundled" / "model"
CPU = Hardware("cpu", 1)
IDS_BT = torch.tensor([[5, 17, 300, 42, 7, 900, 31, 8]])
BASE = ModelSource("base", MODEL)


def over_base(folder: Path, is_merged: bool = False) -> ModelSource:
    adapter = Adapter(folder.name, folder, folder.name, is_merged)
    return replace(BASE, digest=f"base+{folder.name}", adapter=adapter, base_digest="base")


def logits(runtime: Eager) -> torch.Tensor:
    return runtime.forward(IDS_BT, [IDS_BT.shape[1]], at_BK=torch.arange(8)[None]).logits_BKV


def loaded(source: ModelSource, dtype: str = "float32") -> Eager:
    runtime = Eager(dtype)
    runtime.load(source, CPU, lambda name: nullcontext())
    return runtime


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("adapters")
    return write(base / "one"), write(base / "two", seed=1, config={"use_rslora": True, "lora_alpha": 3})


@pytest.fixture(scope="module")
def expected(folders: tuple[Path, Path]) -> list[torch.Tensor]:
    """Return the logits of both adapters as PEFT computes them itself."""
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    found = []
    for folder in folders:
        base = LlamaForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of transformers, about what PEFT asks it
            found.append(PeftModel.from_pretrained(base, folder).eval()(IDS_BT).logits)
    return found


@pytest.fixture(scope="module")
def beside(folders: tuple[Path, Path]) -> Iterator[Eager]:
    with loaded(over_base(folders[0])) as runtime:
        yield runtime


def test_beside_the_weights_it_is_peft_s(beside: Eager, expected: list[torch.Tensor]) -> None:
    assert torch.allclose(logits(beside), expected[0], atol=1e-4)
    with loaded(BASE) as base:
        assert (logits(base) - expected[0]).abs().max() > 1


def test_one_base_goes_from_adapter_to_adapter(
    beside: Eager, folders: tuple[Path, Path], expected: list[torch.Tensor]
) -> None:
    before = logits(beside)
    phases: list[str] = []

    def phase(name: str) -> nullcontext[None]:
        phases.append(name)
        return nullcontext()

    beside.switch_adapter(over_base(folders[1]), phase)
    assert torch.allclose(logits(beside), expected[1], atol=1e-4)
    beside.switch_adapter(over_base(folders[0]), phase)
    assert torch.equal(logits(beside), before)
    assert phases == ["adapter", "adapter"]  # no weights are loaded again


def test_memory_and_switches_are_of_the_factors(beside: Eager) -> None:
    held = beside.held_adapter()
    assert held is not None
    assert held.memory_bytes == 4 * sum(tensor.numel() for tensor in tensors().values())
    before = logits(beside)
    attach_s, switches = held.switch_seconds(4)
    assert attach_s > 0
    assert len(switches) == 4
    assert min(switches) > 0
    assert torch.equal(logits(beside), before)
    assert held.memory_bytes == 4 * sum(tensor.numel() for tensor in tensors().values())  # the second is gone


@pytest.mark.parametrize(("dtype", "least", "most"), [("float32", 0.0, 1e-3), ("bfloat16", 1e-4, 1.0)])
def test_merged_differs_by_rounding(folders: tuple[Path, Path], dtype: str, least: float, most: float) -> None:
    with loaded(over_base(folders[0]), dtype) as one, loaded(over_base(folders[0], is_merged=True), dtype) as merged:
        assert merged.held_adapter() is None
        assert not [name for name, _ in merged._model.module.named_modules() if "lora" in name]
        assert least <= (logits(one) - logits(merged)).abs().max() <= most
        with pytest.raises(Unsupported, match="only beside the weights"):
            merged.switch_adapter(over_base(folders[1]), lambda name: nullcontext())


def test_a_model_without_the_layers_is_another_base(folders: tuple[Path, Path]) -> None:
    shape = {"model_type": "gpt2", "vocab_size": 64, "n_embd": 32, "n_layer": 1, "n_head": 2}
    source = replace(over_base(folders[0]), folder=None, architecture=shape)
    with pytest.raises(Unsupported, match=r"is an adapter of another base: the model has no model\.layers"):
        loaded(source)


AFTER_CLOSE = """
import gc, sys, weakref
from pathlib import Path
import torch
from tests.runtimes.test_adapters import BASE, loaded, logits, over_base

def tensors():
    gc.collect()
    return [one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter) and one.numel() > 1000]

before = len(tensors())
folder = Path(sys.argv[1])
for source in (BASE, over_base(folder), over_base(folder, is_merged=True)):
    runtime = loaded(source)
    logits(runtime)
    module = weakref.ref(runtime._model.module)
    weights = [weakref.ref(weight) for weight in runtime._model.module.parameters()]
    assert len(tensors()) >= before + 30
    runtime.close()
    gc.collect()
    assert module() is None, source
    assert not any(weight() is not None for weight in weights), source
    assert len(tensors()) == before, source
"""


def test_nothing_of_the_model_survives_close(folders: tuple[Path, Path]) -> None:
    """In a process of its own, where no other test holds tensors."""
    command = [sys.executable, "-c", AFTER_CLOSE, str(folders[0])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
