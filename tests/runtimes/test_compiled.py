"""`compile` around CUDA graphs, without a GPU: the choice of a way to replay, and caches that keep their place."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime_matrix.runtimes.base import Hardware, ModelSource, Runtime, Traits, Unsupported
from runtime_matrix.runtimes.engines import compiled
from runtime_matrix.runtimes.engines.compiled import Compiled
from runtime_matrix.runtimes.engines.compiled_graphs import Graphs
from runtime_matrix.runtimes.engines.cuda_graph import CachePool, fastest
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.inductor import by_inductor
from runtime_matrix.runtimes.engines.slots import SlotCache
from runtime_matrix.runtimes.engines.torch_tensorrt import by_tensorrt


def load(runtime: Runtime, tiny_model: Path, artifacts: Path) -> Traits:
    return runtime.load(ModelSource("tiny", tiny_model), Hardware("cpu", 1, artifacts), lambda name: nullcontext())


def test_the_fastest_way_is_told_with_the_time_of_each() -> None:
    now = 0.0

    def work(seconds: float) -> None:
        nonlocal now
        now += seconds

    name, seconds = fastest({"slow": lambda: work(0.004), "quick": lambda: work(0.001)}, clock=lambda: now)
    assert name == "quick"
    assert seconds == pytest.approx({"slow": 0.004, "quick": 0.001})


class SlowCapture:
    """A fake of `CapturedStep`, which needs a GPU: calls the step many times."""

    def __init__(self, step: Callable[..., torch.Tensor]):
        self._step = step

    def __call__(self, *given: Any) -> torch.Tensor:
        return [self._step(*given) for _ in range(20)][-1]


@pytest.mark.slow
def test_auto_keeps_the_faster_step_and_says_which(
    tiny_model: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "CapturedStep", SlowCapture)
    runtime = Compiled(batch_buckets=[1], token_buckets=[8])
    eager = Eager()
    load(eager, tiny_model, artifacts)
    load(runtime, tiny_model, artifacts)
    runtime._pool = CachePool(eager._model.new_cache)
    step, graphs = runtime._step, Graphs(runtime._model)
    assert step is not None
    said = runtime._choose_step(step, by_inductor(graphs.step, "reduce-overhead", Hardware("cpu", 1, artifacts)))
    assert said.startswith("mode auto: reduce-overhead; a captured CUDA graph: ")
    logits = []
    for each in (runtime, eager):
        cache = each.new_cache(1, 100)
        each.forward(torch.arange(3, 11)[None], [8], cache)
        logits.append(each.forward(torch.tensor([[5]]), [1], cache).logits_BKV)
    torch.testing.assert_close(*logits, atol=1e-4, rtol=0)
    assert (
        runtime.counters().items() >= {"compiled_graphs": 3, "recompiles": 0, "graph_breaks": 0}.items()
    )  # two steps, one prefill


def test_the_graphs_are_compiled_by_what_the_engine_is_given(tiny_model: Path, artifacts: Path) -> None:
    asked: list[tuple[str, str, str]] = []

    def compile_graph(graph: Callable[..., Any], mode: str, hw: Hardware) -> Callable[..., Any]:
        asked.append((graph.__name__, mode, hw.device))
        return graph

    eager, given = Eager(), Compiled(mode="max-autotune-no-cudagraphs", compile_graph=compile_graph)
    with eager, given:
        logits = []
        for each in (eager, given):
            traits = load(each, tiny_model, artifacts)
            assert not traits.build_phases  # a choice between steps is made at every start
            cache = each.new_cache(1, 100)
            each.forward(torch.arange(3, 11)[None], [8], cache)
            logits.append(each.forward(torch.tensor([[5]]), [1], cache).logits_BKV)
        torch.testing.assert_close(*logits, atol=1e-4, rtol=0)
    assert asked == [(name, "max-autotune-no-cudagraphs", "cpu") for name in ("prefill", "step")]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("default", {"options": {"cpp_wrapper": True, "cpp.min_chunk_size": 32768}}),
        ("max-autotune", {"mode": "max-autotune"}),
    ],
)
def test_inductor_is_told(mode: str, expected: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, object]] = []
    monkeypatch.setattr(torch, "compile", lambda graph, **options: told.append(options))
    by_inductor(lambda: None, mode, Hardware("cpu", 1))
    assert told == [{"fullgraph": True, "dynamic": False, **expected}]


def test_tensorrt_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(torch, "compile", lambda graph, **options: told.append(options))
    by_tensorrt(lambda: None, "default", Hardware("cuda", 1, tmp_path))
    (options,) = told
    assert options["backend"] == "torch_tensorrt"
    assert options["options"]["engine_cache_dir"] == str(tmp_path.resolve() / "torch_tensorrt")


def test_a_pool_gives_the_same_buffers_again_and_no_two_caches_share_them() -> None:
    made: list[SlotCache] = []

    def make(rows: int, slots: int) -> SlotCache:
        made.append(SlotCache([torch.ones(rows, 1, slots, 2)], [torch.ones(rows, 1, slots, 2)], [0] * rows))
        return made[-1]

    pool = CachePool(make)
    first, second = pool.take(1, 128), pool.take(1, 128)
    assert first.keys[0].data_ptr() != second.keys[0].data_ptr()
    place = first.keys[0].data_ptr()
    first.row_lengths = [7]
    del first
    gc.collect()
    again = pool.take(1, 128)
    assert (again.keys[0].data_ptr(), again.lengths) == (place, [0])
    assert pool.take(2, 128).keys[0].shape[0] == 2
    assert len(made) == 3


def test_on_a_gpu_triton_needs_a_c_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Unsupported, match="needs a C compiler on a GPU, for Triton; none was found: install gcc"):
        Compiled().check(Hardware("cuda", 1, tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/gcc" if name == "gcc" else None)
    Compiled().check(Hardware("cuda", 1, tmp_path))


def test_no_bucket_is_longer_than_what_is_asked_for(tiny_model: Path, artifacts: Path) -> None:
    def buckets(max_tokens: int | None) -> tuple[int, ...]:
        runtime, source = Compiled(batch_buckets=[1]), ModelSource("tiny", tiny_model, max_tokens=max_tokens)
        traits = runtime.load(source, Hardware("cpu", 1, artifacts), lambda name: nullcontext())
        runtime.close()
        return traits.buckets.tokens

    assert [buckets(limit) for limit in (None, 600, 300, 64, 40)] == [
        (64, 256, 512), (64, 256, 512), (64, 256, 300), (64,), (40,)
    ]  # fmt: skip
