"""One contract, every runtime: what the core relies on.

Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from runtime_matrix.runtimes.base import Hardware, ModelSource, Runtime, Unsupported
from runtime_matrix.runtimes.engines.compiled import Compiled
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.fake import Fake
from runtime_matrix.runtimes.engines.onnxruntime import OnnxRuntime
from runtime_matrix.runtimes.placements.offload import Offload
from runtime_matrix.runtimes.weights.full import Full
from runtime_matrix.runtimes.weights.torchao import TorchAo
from tests.runtimes import on_card

TOLERANCE = 1e-4  # of a logit, in float32
ENGINES: dict[str, Callable[[], Runtime]] = {
    "eager": Eager,
    "eager_attention": lambda: Eager(attention="eager"),
    "compile": lambda: Compiled(batch_buckets=[2], token_buckets=[8]),
    "onnxruntime": OnnxRuntime,
    "offload": lambda: Eager(placement=Offload(layers=1)),
    "torchao_int8": lambda: Eager(weights=TorchAo("int8")),
    "fake": lambda: Fake(vocabulary=128, max_length=256),
}
NEEDS = {"offload": "accelerate", "torchao_int8": "torchao"}
# Quantized checkpoints as AutoGPTQ and AutoAWQ wrote them. What reads them patches transformers when it is imported:
# they keep this contract in a process of their own, which the last test starts.
CHECKPOINTS = Path(__file__).parent / "checkpoints"
OWN_PROCESS = "RUNTIME_MATRIX_TESTS_CHECKPOINTS"
ON_CARD = {f"{name} on a card": name for name in on_card.ENGINES}
if OWN_PROCESS in os.environ:
    ENGINES, ON_CARD = {"autogptq": Eager, "autoawq": Eager}, {}


@pytest.fixture(scope="module", params=[*ENGINES, *ON_CARD])
def loaded(request: pytest.FixtureRequest, tiny_model: Path, artifacts: Path) -> Iterator[Runtime | str]:
    """Yield a runtime of the host, or the name of one that wants a card."""
    if request.param in ON_CARD:
        yield ON_CARD[request.param]
        return
    if request.param in NEEDS:
        pytest.importorskip(NEEDS[request.param])
    folder = CHECKPOINTS / request.param
    model = ModelSource(request.param, folder) if folder.is_dir() else ModelSource("tiny", tiny_model)
    made = ENGINES[request.param]()
    made.load(model, Hardware("cpu", 1, artifacts), lambda name: nullcontext())
    yield made
    made.close()
    made.close()  # closing twice is allowed


@pytest.fixture
def runtime(
    loaded: Runtime | str, tiny_model: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Runtime]:
    if isinstance(loaded, Runtime):
        yield loaded
        return
    with on_card.on_card(loaded, tiny_model, artifacts, monkeypatch) as (made, _, _):
        yield on_card.ToHost(made)


@pytest.fixture(scope="module")
def ids_BT() -> torch.Tensor:
    return torch.randint(3, 120, (2, 8), generator=torch.Generator().manual_seed(1))


def all_logits(runtime: Runtime, ids_BT: torch.Tensor) -> torch.Tensor:
    at_BT = torch.arange(ids_BT.shape[1]).expand(ids_BT.shape).contiguous()
    return runtime.forward(ids_BT, [ids_BT.shape[1]] * len(ids_BT), None, at_BT).logits_BKV


def test_logits_are_eager_s(runtime: Runtime, ids_BT: torch.Tensor, tiny_model: Path) -> None:
    if isinstance(runtime, Fake):
        pytest.skip("its answers are scripted")
    if OWN_PROCESS in os.environ or (isinstance(runtime, Eager) and not isinstance(runtime._weights, Full)):
        pytest.skip("its weights are others; what it must keep is in the tests below")
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)(ids_BT).logits
    found = all_logits(runtime, ids_BT)
    assert found.shape == (2, 8, 128)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def test_cache_equals_recompute_for_rows_of_different_length(runtime: Runtime, ids_BT: torch.Tensor) -> None:
    whole = all_logits(runtime, ids_BT)
    cache = runtime.new_cache(2, 32)
    first = runtime.forward(ids_BT[:, :5].contiguous(), [5, 3], cache).logits_BKV
    torch.testing.assert_close(first[:, 0], torch.stack([whole[0, 4], whole[1, 2]]), atol=TOLERANCE, rtol=0)
    assert cache.lengths == [5, 3]
    second = runtime.forward(torch.stack([ids_BT[0, 5:6], ids_BT[1, 3:4]]), [1, 1], cache).logits_BKV
    torch.testing.assert_close(second[:, 0], torch.stack([whole[0, 5], whole[1, 3]]), atol=TOLERANCE, rtol=0)
    assert cache.lengths == [6, 4]


def test_many_rows_from_one_prefix_equal_separate_rows(runtime: Runtime, ids_BT: torch.Tensor) -> None:
    rows = torch.stack([ids_BT[0], torch.cat([ids_BT[0, :4], ids_BT[1, 4:]])])
    separate = all_logits(runtime, rows)
    prefix = runtime.new_cache(2, 32)
    runtime.forward(rows[:, :4].contiguous(), [4, 4], prefix)
    shared = prefix.select([0, 0])
    at = torch.arange(4).expand(2, 4).contiguous()
    found = runtime.forward(rows[:, 4:].contiguous(), [4, 4], shared, at).logits_BKV
    torch.testing.assert_close(found, separate[:, 4:], atol=TOLERANCE, rtol=0)
    assert prefix.lengths == [4, 4]


def test_rewound_rows_forget(runtime: Runtime, ids_BT: torch.Tensor) -> None:
    whole = all_logits(runtime, ids_BT)
    cache = runtime.new_cache(2, 32)
    runtime.forward(ids_BT, [8, 8], cache)
    cache.rewind([3, 6])
    assert cache.lengths == [3, 6]
    found = runtime.forward(torch.stack([ids_BT[0, 3:4], ids_BT[1, 6:7]]), [1, 1], cache).logits_BKV
    torch.testing.assert_close(found[:, 0], torch.stack([whole[0, 3], whole[1, 6]]), atol=TOLERANCE, rtol=0)
    with pytest.raises(ValueError, match="cannot rewind"):
        cache.rewind([5, 1])


def test_a_row_makes_room_for_another(runtime: Runtime, ids_BT: torch.Tensor) -> None:
    whole = all_logits(runtime, ids_BT)
    cache = runtime.new_cache(2, 32)
    runtime.forward(ids_BT[:, :4].contiguous(), [4, 2], cache)
    runtime.forward(ids_BT[:, :1].contiguous(), [1, 1], cache)  # row 0 goes astray, and is given up
    cache.rewind([5, 2])
    fresh = runtime.new_cache(2, 32)
    runtime.forward(ids_BT.flip(0)[:, :6].contiguous(), [6, 3], fresh)
    cache.replace([0], fresh.select([0]))
    assert cache.lengths == [6, 2]
    found = runtime.forward(torch.stack([ids_BT[1, 6:7], ids_BT[1, 2:3]]), [1, 1], cache).logits_BKV
    torch.testing.assert_close(found[:, 0], torch.stack([whole[1, 6], whole[1, 2]]), atol=TOLERANCE, rtol=0)
    assert fresh.lengths == [6, 3]


@pytest.mark.parametrize("engine", [Eager, OnnxRuntime])
def test_rows_branch_from_one_prefix_without_a_copy(
    engine: type[Runtime], tiny_model: Path, artifacts: Path, ids_BT: torch.Tensor
) -> None:
    runtime = engine()
    traits = runtime.load(ModelSource("tiny", tiny_model), Hardware("cpu", 1, artifacts), lambda name: nullcontext())
    assert traits.shares_prefix
    rows = torch.stack([torch.cat([ids_BT[0, :4], ids_BT[row, 4:]]) for row in (0, 1)])
    separate = all_logits(runtime, rows)
    trunk = runtime.new_cache(1, 4)
    runtime.forward(rows[:1, :4].contiguous(), [4], trunk)
    branch = runtime.branch(trunk, 2, 4)
    assert branch.lengths == [4, 4]
    at_BK = torch.tensor([[0, 1], [0, 0]])
    found = runtime.forward(rows[:, 4:6].contiguous(), [2, 1], branch, at_BK).logits_BKV
    torch.testing.assert_close(found[0], separate[0, 4:6], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(found[1, 0], separate[1, 4], atol=TOLERANCE, rtol=0)
    assert branch.lengths == [6, 5]
    below = branch.select([1, 0, 1])
    new = torch.stack([rows[1, 5:7], rows[0, 6:8], rows[1, 5:7]])
    at_BK = torch.arange(2).expand(3, 2).contiguous()
    found = runtime.forward(new, [2, 2, 2], below, at_BK).logits_BKV
    expected = torch.stack([separate[1, 5:7], separate[0, 6:8], separate[1, 5:7]])
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)
    below.rewind([5, 6, 5])
    found = runtime.forward(new[:, :1].contiguous(), [1, 1, 1], below).logits_BKV
    torch.testing.assert_close(found[:, 0], expected[:, 0], atol=TOLERANCE, rtol=0)
    with pytest.raises(ValueError, match="cannot rewind"):
        below.rewind([3, 3, 3])
    assert trunk.lengths == [4]


def test_compile_counts_its_graphs(tiny_model: Path, artifacts: Path, ids_BT: torch.Tensor) -> None:
    runtime = Compiled(batch_buckets=[2], token_buckets=[8])
    runtime.load(ModelSource("tiny", tiny_model), Hardware("cpu", 1, artifacts), lambda name: nullcontext())
    for _ in range(2):
        cache = runtime.new_cache(2, 32)
        runtime.forward(ids_BT, [8, 8], cache)
        runtime.forward(ids_BT[:, :1].contiguous(), [1, 1], cache)
    assert runtime.counters().items() >= {"compiled_graphs": 2, "recompiles": 0, "graph_breaks": 0}.items()


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unsupported, match=r"pip install 'runtime-matrix\[onnx\]'"):
        OnnxRuntime().load(ModelSource("tiny"), Hardware("cpu", 1), lambda name: nullcontext())


def test_a_missing_compiler_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unsupported, match=r"install g\+\+"):
        Compiled().load(ModelSource("tiny"), Hardware("cpu", 1), lambda name: nullcontext())


@pytest.mark.skipif(OWN_PROCESS not in os.environ, reason="runs in a process of its own")
@pytest.mark.parametrize("name", ["autogptq", "autoawq"])
def test_a_checkpoint_s_logits_are_those_of_the_package_that_made_it(name: str, artifacts: Path) -> None:
    expected = json.loads((CHECKPOINTS / name / "expected.json").read_text())
    runtime = Eager()
    runtime.load(ModelSource(name, CHECKPOINTS / name), Hardware("cpu", 1, artifacts), lambda name: nullcontext())
    found = runtime.forward(torch.tensor(expected["token_ids"]), [8, 8]).logits_BKV[:, 0]
    # Quantizing moved these logits by 0.064 and 0.073; the kernels of then and now round in float16 and bfloat16.
    torch.testing.assert_close(found, torch.tensor(expected["last_logits"]), atol=5e-3, rtol=0)


@pytest.mark.skipif(OWN_PROCESS in os.environ, reason="starts itself")
def test_checkpoints_of_other_makers_keep_the_contract() -> None:
    if importlib.util.find_spec("gptqmodel") is None:  # importing it here would patch transformers
        pytest.skip("gptqmodel is not installed: pip install 'runtime-matrix[gptq]'")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", __file__, "-k", "autogptq or autoawq"]
    done = subprocess.run(command, env={**os.environ, OWN_PROCESS: "1"}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed, 2 skipped" in done.stdout, done.stdout
