"""What one forward needs belongs to it alone: forwards of two runtimes, or of two branches of one, may be interleaved.

Shapes: B rows, T tokens, K wanted positions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime_matrix.runtimes.base import Hardware, ModelSource
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.plan import CURRENT, ForwardPlan

Forward = Callable[[], torch.Tensor]


def loaded(model: Path, artifacts: Path) -> Eager:
    runtime = Eager()
    runtime.load(ModelSource("tiny", model), Hardware("cpu", 1, artifacts), lambda name: nullcontext())
    return runtime


@pytest.fixture
def runtime(tiny_model: Path, artifacts: Path) -> Iterator[Eager]:
    with loaded(tiny_model, artifacts) as made:
        yield made


def drawn(rows: int, tokens: int, seed: int) -> torch.Tensor:
    return torch.randint(3, 120, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def plain(runtime: Eager) -> Forward:
    """Return a forward whose rows differ in length, and of which few positions are wanted: the last layer skips."""
    ids_BT, at_BK = drawn(2, 9, 1), torch.tensor([[4, 8], [1, 5]])
    return lambda: runtime.forward(ids_BT, [9, 6], None, at_BK).logits_BKV


def branch(runtime: Eager, seed: int) -> Forward:
    """Return the first forward of a branch, which is packed; each call makes the branch anew."""
    trunk_ids, ids_BT, at_BK = drawn(1, 7 + seed, seed), drawn(3, 4, seed + 1), torch.tensor([[3], [1], [0]])

    def forward() -> torch.Tensor:
        trunk = runtime.new_cache(1, 16)
        runtime.forward(trunk_ids, [trunk_ids.shape[1]], trunk)
        below = runtime.branch(trunk, 3, 8)
        packed = runtime.forward(ids_BT, [4, 2, 1], below, at_BK).logits_BKV
        step = runtime.forward(ids_BT[:, :1].contiguous(), [1, 1, 1], below).logits_BKV
        return torch.cat([packed, step], dim=1)

    return forward


@contextmanager
def amid(runtime: Eager, inner: Callable[[], object]) -> Iterator[None]:
    """Run something in the middle of each forward of the runtime, between its two layers, but not within itself."""
    running = False

    def hook(layer: Any, inputs: Any) -> None:
        nonlocal running
        if not running:
            running = True
            inner()
            running = False

    handle = runtime._model.module.base_model.layers[-1].register_forward_pre_hook(hook)
    yield
    handle.remove()


def test_two_runtimes_in_one_process(runtime: Eager, tiny_model: Path, artifacts: Path) -> None:
    with loaded(tiny_model, artifacts) as other:
        first, second = plain(runtime), branch(other, 2)
        expected, inner, found = first(), second(), []
        with amid(runtime, lambda: found.append(second())):
            assert torch.equal(first(), expected)
        assert [torch.equal(one, inner) for one in found] == [True]
        with amid(other, lambda: found.append(first())):
            assert torch.equal(second(), inner)
        assert len(found) == 4  # within the trunk's forward, the packed one and the step
        assert all(torch.equal(one, expected) for one in found[1:])


def test_two_branches_of_one_runtime(runtime: Eager) -> None:
    first, second = branch(runtime, 1), branch(runtime, 5)
    expected, inner, found = first(), second(), []
    with amid(runtime, lambda: found.append(second())):
        assert torch.equal(first(), expected)
    assert [torch.equal(one, inner) for one in found] == [True] * 3


def test_threads_have_plans_of_their_own(runtime: Eager, tiny_model: Path, artifacts: Path) -> None:
    with loaded(tiny_model, artifacts) as other:
        forwards = [plain(runtime), branch(other, 3)]
        expected = [forward() for forward in forwards]
        wrong: list[int] = []

        def work(index: int) -> None:
            for _ in range(20):
                if not torch.equal(forwards[index](), expected[index]):
                    wrong.append(index)

        threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_nothing_of_a_forward_stays_on_the_engine(runtime: Eager) -> None:
    plans: list[ForwardPlan | None] = []
    with amid(runtime, lambda: plans.append(CURRENT.get())):
        plain(runtime)()
    (plan,) = plans
    assert plan is not None
    assert plan.at_BK.tolist() == [[4, 8], [1, 5]]
    assert plan.last_M is not None
    assert plan.last_M.tolist() == [4, 8, 10, 14]
    assert CURRENT.get() is None
    assert set(vars(runtime)) == {"_loader", "_loaded"}


def test_a_forward_that_fails_leaves_no_plan(runtime: Eager) -> None:
    def fail() -> None:
        raise EOFError

    with amid(runtime, fail), pytest.raises(EOFError):
        plain(runtime)()
    assert CURRENT.get() is None


def test_the_module_of_a_runtime_can_be_called_by_others(runtime: Eager) -> None:
    with torch.inference_mode():
        logits = runtime._model.module(input_ids=drawn(2, 5, 3)).logits
    assert logits.shape[:2] == (2, 5)
