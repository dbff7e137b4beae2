"""How the processes of ranks fail and end, and that nothing of them is left. Each test loads a model of its own."""

from __future__ import annotations

import gc
import os
import signal
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from typing_extensions import override

from runtime_matrix.experiments.measurement.processes import descendants
from runtime_matrix.runtimes.base import LoadRequest, Unsupported
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.placements.rank_processes import RankFailed
from runtime_matrix.runtimes.placements.tensor_parallel import TensorParallel
from runtime_matrix.runtimes.weights.full import Full
from tests.runtimes.over_ranks import IDS_BT, loaded, logits, spread

OTHERS: dict[
    str, dict[str, object]
] = {  # with biases, norms of heads, fused matrices, experts, and embeddings that each rank copies
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "phi3": {"pad_token_id": 0, "rope_scaling": None},
    "mixtral": {"num_local_experts": 4, "sliding_window": None},
    "gpt_neox": {"num_key_value_heads": 4},
}


def test_a_killed_rank_fails_all_calls_and_close_leaves_nothing(artifacts: Path) -> None:
    before = set(descendants())
    made = loaded(spread(), artifacts)
    module, process, folder = weakref.ref(made._part._loaded.module), made.processes()[0], made._processes._folder
    os.kill(process, signal.SIGKILL)
    start = time.monotonic()
    for _ in range(2):
        with pytest.raises(RankFailed, match=r"^rank 1 of 2 was ended by SIGKILL$"):
            made.forward(IDS_BT, [8, 8])
    with pytest.raises(RankFailed, match=r"^rank 1 of 2 was ended by SIGKILL$"):
        made.new_cache(1, 16)
    assert time.monotonic() - start < 30  # long before the timeout
    made.close()
    made.close()  # closing twice is allowed
    gc.collect()
    assert module() is None
    check_nothing_is_left(process, folder, before)


@pytest.mark.slow
def test_after_close_another_model_is_loaded_into_the_same_object(artifacts: Path) -> None:
    before = set(descendants())
    made: Any = spread()
    for _ in range(2):
        loaded(made, artifacts)
        module, process, folder = weakref.ref(made._part._loaded.module), made.processes()[0], made._processes._folder
        made.forward(IDS_BT[:1], [8], made.new_cache(1, 8))
        made.close()
        gc.collect()
        assert module() is None
        check_nothing_is_left(process, folder, before)


def check_nothing_is_left(process: int, folder: Path, before: set[int]) -> None:
    assert not distributed.is_initialized()
    assert set(descendants()) == before
    assert not Path(f"/proc/{process}").exists()
    assert not folder.exists()


class CannotBeRead(Eager):
    """An engine that another process cannot create again."""

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return os.listdir, ("/no/such/folder",)


def test_a_rank_that_fails_to_start_fails_the_load(artifacts: Path) -> None:
    placement = TensorParallel(2, timeout_s=120)
    made = placement.spread(CannotBeRead(placement=placement))
    with pytest.raises(RankFailed, match=r"^rank 1 of 2: FileNotFoundError: .*'/no/such/folder'$"):
        loaded(made, artifacts)
    assert made.processes() == ()


class FailsElsewhere(Full):
    """Weights that end or fail in another rank than the first."""

    def __init__(self, code: int | None):
        self._code = code

    @override
    def load(self, request: LoadRequest) -> Any:
        if os.environ.get("LOCAL_RANK") != "1":
            return super().load(request)
        if self._code is None:
            raise OSError("the disk is full\nand more")
        os._exit(self._code)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "says"),
    [(None, "rank 1 of 2: OSError: the disk is full"), (3, "rank 1 of 2 ended with code 3")],
)
def test_a_rank_that_fails_to_load_fails_the_load(artifacts: Path, code: int | None, says: str) -> None:
    made = spread(weights=FailsElsewhere(code))
    with pytest.raises(RankFailed, match=f"^{says}$"):
        loaded(made, artifacts)
    assert made.processes() == ()
    assert not distributed.is_initialized()


def test_a_rank_that_does_not_answer_fails_the_load_in_time(artifacts: Path) -> None:
    start = time.monotonic()
    with pytest.raises(RankFailed, match=r"^rank 1 of 2 did not answer within 0.2 s \(runtime.placement.timeout_s\)$"):
        loaded(spread(timeout_s=0.2), artifacts)
    assert time.monotonic() - start < 30


@pytest.mark.slow
def test_a_stopped_rank_fails_the_call_in_time(artifacts: Path) -> None:
    """The rank is ended with SIGKILL, which reaches a stopped process too."""
    with spread(timeout_s=40) as made:
        loaded(made, artifacts)
        process = made.processes()[0]
        os.kill(process, signal.SIGSTOP)
        with pytest.raises(RankFailed, match="rank 1 of 2 did not answer within 40 s"):
            made.forward(IDS_BT, [8, 8])
    assert not Path(f"/proc/{process}").exists()


@pytest.mark.slow
def test_a_stopped_rank_that_reads_no_more_orders_fails_the_order(artifacts: Path) -> None:
    with spread(timeout_s=40) as made:
        loaded(made, artifacts)
        os.kill(made.processes()[0], signal.SIGSTOP)
        with pytest.raises(RankFailed, match="rank 1 of 2 did not answer within 40 s"):
            made.forward(torch.zeros(64, 4096, dtype=torch.long), [4096] * 64)  # 2 MiB, more than a socket holds


@pytest.mark.slow
@pytest.mark.parametrize("model_type", OTHERS)
def test_other_architectures_are_eager_s(artifacts: Path, model_type: str) -> None:
    changed = {"model_type": model_type, "vocab_size": 128, "intermediate_size": 64, **OTHERS[model_type]}
    with spread() as made, Eager() as whole:
        found, expected = (logits(loaded(each, artifacts, **changed)) for each in (made, whole))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_model_that_cannot_be_distributed_starts_no_rank(artifacts: Path) -> None:
    before = set(descendants())
    with pytest.raises(Unsupported, match="transformers has no plan to distribute a gpt2: use"):
        loaded(spread(), artifacts, model_type="gpt2")
    assert set(descendants()) == before
