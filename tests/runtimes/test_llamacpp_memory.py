"""The contexts of llama.cpp: rows with memory of their own, branches that share one, and how it is reused."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typing_extensions import override

from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.runtimes.base import Hardware, ModelSource, Runtime, Traits
from runtime_matrix.runtimes.engines import llamacpp_cache
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.llamacpp import LlamaCpp
from runtime_matrix.runtimes.engines.llamacpp_context import Context, Size, _calls

pytest.importorskip("xllamacpp")


def load(runtime: Runtime, artifacts: Path) -> Traits:
    return runtime.load(
        ModelSource("bundled", BUNDLED / "model"), Hardware("cpu", 1, artifacts), lambda name: nullcontext()
    )


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


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Size]:
    """Return the sizes of the contexts that are created from now on."""
    sizes = []

    class Noted(Context):
        @override
        def _created(self, size: Size) -> int:
            sizes.append(size)
            return super()._created(size)

    monkeypatch.setattr(llamacpp_cache, "Context", Noted)
    return sizes


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sequences to which others are copied from now on."""
    targets, copy = [], Context.copy

    def noted(self: Context, source: Context, source_sequence: int, target: int) -> None:
        targets.append(target)
        copy(self, source, source_sequence, target)

    monkeypatch.setattr(Context, "copy", noted)
    return targets


def prompts(rows: int, tokens: int) -> torch.Tensor:
    return torch.randint(2, 2048, (rows, tokens), generator=torch.Generator().manual_seed(7))


def last_logits(runtime: Runtime, rows: list[torch.Tensor]) -> torch.Tensor:
    """Return (B, V) at the last token of each row, computed alone."""
    return torch.cat([runtime.forward(row[None], [len(row)]).logits_BKV[:, 0] for row in rows])


def test_rows_of_any_length_are_eager_s(llama: LlamaCpp, eager: Eager) -> None:
    ids_BT, lengths = prompts(7, 600), [600, 600, 70, 40, 40, 5, 3]
    cache = llama.new_cache(7, 610)
    found = llama.forward(ids_BT, lengths, cache).logits_BKV[:, 0]
    rows = [row[:length] for row, length in zip(ids_BT, lengths, strict=True)]
    torch.testing.assert_close(found, last_logits(eager, rows), atol=1e-4, rtol=0)
    new, order = prompts(3, 4), [6, 0, 3]
    found = llama.forward(new, [4, 1, 3], cache.select(order)).logits_BKV[:, 0]
    longer = [torch.cat([rows[at], new[i, :n]]) for i, (at, n) in enumerate(zip(order, [4, 1, 3], strict=True))]
    torch.testing.assert_close(found, last_logits(eager, longer), atol=1e-4, rtol=0)


def test_separate_and_shared_memory_agree(llama: LlamaCpp, artifacts: Path) -> None:
    found = []
    with LlamaCpp(kv_unified=True) as unified:
        load(unified, artifacts)
        for runtime in (llama, unified):
            cache = runtime.new_cache(3, 60)
            logits = [runtime.forward(prompts(3, 50), [50, 40, 30], cache).logits_BKV]
            other = runtime.new_cache(1, 60)
            runtime.forward(prompts(1, 20), [20], other)
            cache.replace([1], other)
            assert cache.lengths == [50, 20, 30]
            logits.append(runtime.forward(prompts(3, 1), [1] * 3, cache).logits_BKV)
            found.append(torch.cat(logits))
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("options", [{"kv_dtype": "float16"}, {"kv_dtype": "bfloat16"}, {"flash_attention": True}])
def test_rows_of_other_layouts_are_copied_too(options: dict[str, Any], artifacts: Path) -> None:
    with LlamaCpp(**options) as runtime:
        load(runtime, artifacts)
        cache = runtime.new_cache(2, 40)
        runtime.forward(prompts(2, 30), [20, 30], cache)
        copies = [cache.select([1, 0, 1]), runtime.branch(cache.select([1]), 3, 4)]
        expected = runtime.forward(prompts(1, 1).expand(2, 1).contiguous(), [1, 1], cache).logits_BKV
        for rows, order in zip(copies, ([1, 0, 1], [1, 1, 1]), strict=True):
            found = runtime.forward(prompts(1, 1).expand(3, 1).contiguous(), [1] * 3, rows).logits_BKV
            torch.testing.assert_close(found, expected[order], atol=1e-2, rtol=0)
        assert float((expected[0] - expected[1]).abs().max()) > 0.5


def test_a_prefix_is_copied_once_for_all_branches(llama: LlamaCpp, copies: list[int]) -> None:
    prefix = llama.new_cache(1, 40)
    llama.forward(prompts(1, 30), [30], prefix)
    branches = [llama.branch(prefix, rows, 4) for rows in (16, 8)]
    assert len(copies) == 1
    found = [llama.forward(prompts(len(b.lengths), 2), [2] * len(b.lengths), b).logits_BKV for b in branches]
    branches[0].select([3, 3])
    assert len(copies) == 1
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=0)
    llama.forward(prompts(1, 1), [1], prefix)  # the prefix is another one now
    assert llama.branch(prefix, 2, 4).lengths == [31, 31]
    assert len(copies) == 2


def test_a_branch_without_capacity_stores_nothing(llama: LlamaCpp) -> None:
    prefix, lengths = llama.new_cache(1, 40), [100, 7, 90, 60, 1]  # rows end within calls of 128 tokens
    llama.forward(prompts(1, 30), [30], prefix)
    found = []
    for capacity in (100, 0, 0):
        branch = llama.branch(prefix, 5, capacity)
        found += [llama.forward(prompts(5, 100), lengths, branch).logits_BKV for _ in range(1 if capacity else 2)]
        assert branch.lengths == ([30 + length for length in lengths] if capacity else [30] * 5)
    for logits in found[1:]:
        torch.testing.assert_close(logits, found[0], atol=1e-5, rtol=0)
    assert llama.counters() == {"context_growths": 0}


def test_shared_memory_grows_and_keeps_its_rows(llama: LlamaCpp) -> None:
    prefix, new = prompts(1, 700), prompts(3, 200)  # shared memory begins with 512 tokens
    trunk = llama.new_cache(1, 700)
    llama.forward(prefix, [700], trunk)
    branch = llama.branch(trunk, 3, 201)
    assert llama.counters() == {"context_growths": 1}
    llama.forward(new, [200] * 3, branch)
    assert llama.counters() == {"context_growths": 2}
    found = llama.forward(new[:, :1].contiguous(), [1] * 3, branch).logits_BKV[:, 0]
    rows = [torch.cat([prefix[0], row, row[:1]]) for row in new]
    torch.testing.assert_close(found, last_logits(llama, rows), atol=2e-5, rtol=0)


def test_a_prefix_may_need_several_doublings(llama: LlamaCpp) -> None:
    trunk = llama.new_cache(1, 1000)
    llama.forward(prompts(1, 1000), [1000], trunk)
    trunks = [llama.branch(trunk, 1, 0), llama.branch(trunk.select([0]), 1, 0)]
    assert llama.counters() == {"context_growths": 2}
    found = [llama.forward(prompts(1, 1), [1], branch).logits_BKV for branch in trunks]
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, r"^a row of the cache has space for 512 tokens: create the cache with a larger capacity$"),
        (
            {"kv_unified": True, "context_tokens": 512},
            r"^the shared memory of 512 tokens is full: raise runtime.engine.context_tokens, or set it to null for",
        ),
    ],
)
def test_full_memory_is_an_error_and_changes_no_cache(options: dict[str, Any], says: str, artifacts: Path) -> None:
    with LlamaCpp(**options) as runtime:
        load(runtime, artifacts)
        cache = runtime.new_cache(2, 300)
        runtime.forward(prompts(2, 200), [200, 200], cache)
        first = runtime.forward(prompts(2, 1), [1, 1], cache.select([0, 1])).logits_BKV
        with pytest.raises(ValueError, match=says):
            runtime.forward(prompts(2, 400), [400, 400], cache)
        assert cache.lengths == [200, 200]
        assert torch.equal(runtime.forward(prompts(2, 1), [1, 1], cache).logits_BKV, first)


def test_a_longer_row_does_not_replace_a_short_one(llama: LlamaCpp) -> None:
    short, long = llama.new_cache(1, 100), llama.new_cache(1, 300)
    llama.forward(prompts(1, 300), [300], long)
    with pytest.raises(ValueError, match=r"^a row of the cache has space for 256 tokens"):
        short.replace([0], long)


def test_contexts_are_reused(llama: LlamaCpp, made: list[Size]) -> None:
    for _ in range(10):
        cache = llama.new_cache(6, 8)
        llama.forward(prompts(6, 8), [8] * 6, cache)
        cache = cache.select([5, 4])
    assert [(size.sequences, size.tokens) for size in made] == [(6, 256), (2, 256)]
    llama.forward(prompts(3, 8), [8] * 3)  # dropped rows are empty when others take their memory
    assert cache.lengths == [8, 8]


def test_too_many_rows_are_refused(llama: LlamaCpp) -> None:
    assert len(llama.new_cache(256, 1).lengths) == 256
    with pytest.raises(ValueError, match=r"^a batch of 257 rows is larger than llama.cpp's 256 sequences: use a small"):
        llama.new_cache(257, 1)


@pytest.mark.parametrize(
    ("rows", "tokens", "expected"), [(1, 0, (1, 256)), (9, 257, (10, 512)), (33, 2305, (40, 2560))]
)
def test_sizes_are_rounded(
    rows: int, tokens: int, expected: tuple[int, int], llama: LlamaCpp, made: list[Size]
) -> None:
    llama.new_cache(rows, tokens)
    assert [(size.sequences, size.tokens) for size in made] == [expected]


def test_dropped_caches_return_their_sequences(artifacts: Path) -> None:
    with LlamaCpp(max_sequences=8, kv_unified=True) as runtime:
        traits = load(runtime, artifacts)
        assert traits.max_batch == 2
        for _ in range(20):
            cache = runtime.new_cache(6, 8)
            runtime.forward(prompts(6, 8), [8] * 6, cache)
            cache = cache.select([5, 4])  # the six rows are dropped
        with pytest.raises(
            ValueError, match=r"^7 sequences are needed, and 6 of llama.cpp's 8 are free: use a smaller"
        ):
            runtime.new_cache(7, 8)
        assert cache.lengths == [8, 8]


@pytest.mark.parametrize("unified", [False, True])
def test_dropping_a_cache_of_a_closed_runtime_is_no_error(unified: bool, artifacts: Path) -> None:
    with LlamaCpp(kv_unified=unified) as runtime:
        load(runtime, artifacts)
        cache = runtime.new_cache(2, 8)
        dropped = weakref.ref(cache)
    del cache
    gc.collect()  # an error of a finalizer is a warning, and warnings are errors
    assert dropped() is None


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([1] * 40, [40]),
        ([256] * 3, [512, 256]),
        ([600, 600, 3], [512, 88, 512, 88, 3]),  # long rows whose lengths differ from their neighbours' go alone
        ([64, 64, 40, 40, 5, 3, 2], [128, 80, 10]),
        ([300, 300], [300, 300]),
    ],
)
def test_rows_are_computed_together_where_that_is_fast(counts: list[int], expected: list[int]) -> None:
    sequences_N = np.repeat(np.arange(len(counts)), counts)
    parts = list(_calls(sequences_N, is_shared=False))
    assert [part.stop - part.start for part in parts] == expected
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    assert sum(part.stop - part.start for part in _calls(sequences_N, is_shared=True)) == sum(counts)
