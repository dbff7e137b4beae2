"""A model over two ranks. That it keeps the contract to 1e-5 is in `test_contract.py`.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from runtime_matrix.experiments.measurement.memory import resident_bytes_of
from runtime_matrix.runtimes.base import Adapter, Hardware, ModelSource, Unsupported
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.placements.orders import Forward, Message, NewCache
from runtime_matrix.runtimes.placements.tensor_parallel import TensorParallel
from runtime_matrix.runtimes.weights import sharding
from tests.runtimes.over_ranks import IDS_BT, LLAMA, loaded, logits, spread

FEWER = {"num_key_value_heads": 1}


@pytest.fixture(scope="module")
def runtime(artifacts: Path) -> Iterator[Any]:
    with spread() as made:
        yield loaded(made, artifacts)
        process = made.processes()[0]
    assert not distributed.is_initialized()
    assert not Path(f"/proc/{process}").exists()


def test_a_random_model_of_uneven_parts_is_eager_s(runtime: Any, artifacts: Path) -> None:
    with Eager() as whole:
        torch.testing.assert_close(logits(runtime), logits(loaded(whole, artifacts)), atol=1e-5, rtol=0)


def test_each_rank_states_what_it_holds(runtime: Any, artifacts: Path) -> None:
    first, second = runtime.traits.ranks
    with Eager() as whole:
        traits = loaded(whole, artifacts).traits
    assert traits.ranks == ()
    parameters = traits.weight_bytes // 4
    assert (first.process, second.process) == (os.getpid(), runtime.processes()[0])
    assert second.parameters < first.parameters < 0.6 * parameters
    assert first.copied_parameters == 32 * 5  # the norms
    assert first.parameters + second.parameters == pytest.approx(parameters + 32 * 5, abs=8)  # and buffers
    assert runtime.traits.weight_bytes == first.weight_bytes + second.weight_bytes
    assert "computed by 2 ranks over gloo, 1 thread each" in runtime.traits.notes


def test_caches_that_nobody_holds_are_freed_on_all_ranks(runtime: Any) -> None:
    runtime.forward(IDS_BT[:, :1].contiguous(), [1, 1], runtime.new_cache(2, 16))
    process = runtime.processes()[0]
    before = resident_bytes_of(process)
    assert before is not None
    for _ in range(20):
        cache = runtime.new_cache(64, 4096)
        cache = cache.select(range(64))  # which writes 32 MiB on each rank
    runtime.forward(IDS_BT, [8, 8])  # the rank has performed all orders when this returns
    after = resident_bytes_of(process)
    assert after is not None
    assert after - before < 320 << 20


def test_what_is_refused_changes_no_rank(runtime: Any) -> None:
    expected = logits(runtime)
    cache = runtime.new_cache(2, 4)
    with pytest.raises(ValueError, match="the cache has 4 slots per row; 8 are needed"):
        runtime.forward(IDS_BT, [8, 8], cache)
    with pytest.raises(ValueError, match="cannot rewind"):
        cache.rewind([1, 1])
    torch.testing.assert_close(logits(runtime), expected, atol=0, rtol=0)


def test_a_second_model_in_one_process_is_refused(runtime: Any, artifacts: Path) -> None:
    with pytest.raises(Unsupported, match=r"^this process distributes another model already"):
        loaded(spread(), artifacts)


def test_a_step_is_one_small_message() -> None:
    import pickle

    ids = torch.zeros(1, 1, dtype=torch.long).numpy()
    assert len(pickle.dumps(Message(Forward(ids, [1], 3, None)), pickle.HIGHEST_PROTOCOL)) < 400
    assert len(pickle.dumps(Message(NewCache(1, 2, 64), [0]), pickle.HIGHEST_PROTOCOL)) < 200


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (ModelSource("m", None, LLAMA | FEWER), "num_key_value_heads=1, which 2 ranks cannot share evenly: use"),
        (ModelSource("m", None, {"model_type": "gpt2"}), "transformers has no plan to distribute a gpt2: use"),
        (ModelSource("m", Path("m.gguf")), "a GGUF file is not distributed over ranks: use the original model"),
        (ModelSource("m", Path("m"), stored_method="awq"), "weights stored by awq are not distributed over ranks"),
        (ModelSource("m", Path("m"), adapter=Adapter("a", Path("a"), "a", False)), "an adapter is not distributed"),
    ],
)
def test_a_model_that_cannot_be_distributed_is_refused(model: ModelSource, says: str) -> None:
    with pytest.raises(Unsupported, match=says) as raised:
        sharding.check_model(model, 2)
    assert "\n" not in str(raised.value)


def test_ranks_that_share_the_heads_are_named() -> None:
    says = r"num_attention_heads=4, which 3 ranks cannot share evenly: runtime.placement.ranks=2 or 4$"
    with pytest.raises(Unsupported, match=says):
        sharding.check_model(ModelSource("m", None, LLAMA), 3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ranks": 1}, "runtime.placement.ranks=1: a model is distributed over at least 2 ranks"),
        ({"backend": "mpi"}, "runtime.placement.backend=mpi is unknown; known: auto, gloo, nccl"),
        ({"timeout_s": 0}, "runtime.placement.timeout_s=0: the ranks need time to answer"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(Unsupported, match=says):
        TensorParallel(**options)


def test_gpus_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch, artifacts: Path) -> None:
    cpu, cuda = Hardware("cpu", 2, artifacts), Hardware("cuda", 2, artifacts)
    with pytest.raises(Unsupported, match="nccl needs NVIDIA GPUs"):
        TensorParallel(backend="nccl").check(cpu)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert TensorParallel().ranks(cuda) == 2
    TensorParallel().check(cuda)
    with pytest.raises(Unsupported, match="4 ranks need as many GPUs, one each; this machine shows 2"):
        TensorParallel(ranks=4).check(cuda)
    with pytest.raises(Unsupported, match="over cuda on this machine, not over cpu: set CUDA_VISIBLE_DEVICES to"):
        TensorParallel().check(cpu)


def test_threads_are_shared_out_and_an_odd_number_is_noted(runtime: Any, artifacts: Path) -> None:
    from runtime_matrix.runtimes.placements.mirrored import _note

    hw = Hardware("cpu", 3, artifacts)
    assert _note(hw, replace(hw, threads=1), 2, "gloo").endswith("1 thread each, 2 in all, where hw.threads=3")
