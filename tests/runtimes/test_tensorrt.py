"""TensorRT without a GPU: what it says, and the engine that RTX builds all the same. Running one needs a GPU."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from typing_extensions import override

from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.schema import ScoringConfig
from runtime_matrix.experiments.evaluation.generation import generate
from runtime_matrix.experiments.evaluation.requests import GenerateRequest, ScoreRequest
from runtime_matrix.experiments.evaluation.scoring import score
from runtime_matrix.experiments.evaluation.speculation import Lookup
from runtime_matrix.experiments.execution.worker.loading import classify
from runtime_matrix.runtimes import artifacts as cache
from runtime_matrix.runtimes.base import Hardware, ModelSource, Unsupported
from runtime_matrix.runtimes.engines import compiled, tensorrt
from runtime_matrix.runtimes.engines.tensorrt import TensorRT
from runtime_matrix.runtimes.engines.tensorrt_build import refusal
from runtime_matrix.runtimes.engines.tensorrt_plan import TensorRTPlan
from runtime_matrix.runtimes.engines.torch_tensorrt import TorchTensorRT
from runtime_matrix.runtimes.weights.full import Full
from tests.runtimes import fake_tensorrt
from tests.runtimes.fake_tensorrt import fake_plan, plan_of
from tests.runtimes.stand_in_card import card

HAS_RTX = importlib.util.find_spec("tensorrt_rtx_bindings") is not None


def why_not(runtime: TensorRT, model: Path, artifacts: Path) -> str:
    with pytest.raises(Unsupported) as caught:
        runtime.load(ModelSource("tiny", model), Hardware("cpu", 1, artifacts), lambda name: nullcontext())
    runtime.close()
    return str(caught.value)


def test_without_a_gpu_it_says_what_is_needed_found_and_possible(tiny_model: Path, artifacts: Path) -> None:
    reason = why_not(TensorRT(), tiny_model, artifacts)
    assert "needs an NVIDIA GPU; this machine computes on cpu (torch " in reason
    assert "runtime.engine.build_only=true" in reason


def test_a_package_that_does_not_load_is_told_from_one_that_is_absent(
    tiny_model: Path, artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_tensorrt.py").write_text("raise Exception('libnvinfer.so.11 is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tensorrt, "_MODULES", {"tensorrt": ("broken_tensorrt",), "tensorrt_rtx": ("absent_tensorrt",)})
    loads = why_not(TensorRT(backend="tensorrt", build_only=True), tiny_model, artifacts)
    assert "broken_tensorrt does not load (libnvinfer.so.11 is missing)" in loads
    absent = why_not(TensorRT(backend="tensorrt_rtx", build_only=True), tiny_model, artifacts)
    assert absent.startswith("tensorrt_rtx is not installed: pip install")


@pytest.mark.parametrize("options", [{"backend": "tensorflow"}, {"backend": "torch_tensorrt", "build_only": True}])
def test_what_no_backend_does_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(Unsupported, match="backend="):
        TensorRT(**options)  # type: ignore[arg-type]


@pytest.mark.skipif(not HAS_RTX, reason="tensorrt-rtx is not installed: pip install 'runtime-matrix[tensorrt-rtx]'")
def test_rtx_builds_an_engine_without_a_gpu_and_finds_it_again(tiny_model: Path, tmp_path: Path) -> None:
    made = why_not(TensorRT(backend="tensorrt_rtx", build_only=True), tiny_model, tmp_path)
    assert "the engine is built" in made
    plans = list(tmp_path.glob("tensorrt/*/model.plan"))
    assert len(plans) == 1
    assert plans[0].stat().st_size > (tiny_model / "model.safetensors").stat().st_size / 2  # float16 weights are within
    before = cache.tally["built"]
    assert why_not(TensorRT(backend="tensorrt_rtx", build_only=True), tiny_model, tmp_path) == made
    assert cache.tally["built"] == before


class Missing(Full):
    """Weights whose package is not installed."""

    @override
    def check(self, hw: Hardware) -> None:
        raise Unsupported("the package of the weights is missing")


def test_a_missing_requirement_is_reported_before_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(device: str) -> None:
        raise Unsupported("no compiler")

    (tmp_path / "fake_trt.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tensorrt, "_MODULES", {"tensorrt": ("fake_trt",), "torch_tensorrt": ("fake_trt",)})
    monkeypatch.setattr(compiled, "require_compiler", no_compiler)
    with pytest.raises(Unsupported, match="the package of the weights is missing"):
        TensorRT(backend="tensorrt", build_only=True, weights=Missing()).check(Hardware("cpu", 1))
    with pytest.raises(Unsupported, match="no compiler"):
        TensorRT(backend="torch_tensorrt").check(Hardware("cuda", 1))


class TorchTensorRTModule(torch.nn.Module):
    """Stands for torch-tensorrt's module of one engine, by whose name the engines are counted."""

    def __init__(self, graph: Any):
        super().__init__()
        self.graph = graph

    @override
    def forward(self, *inputs: Any) -> Any:
        return self.graph(*inputs)


@pytest.mark.parametrize("takes_a_part", [True, False])
def test_torch_tensorrt_runs_its_backend_or_is_unsupported(
    tiny_model: Path, artifacts: Path, takes_a_part: bool
) -> None:
    """With a backend of its name, since the package is not here. Graphs are captured by torch itself."""
    asked: list[dict[str, Any]] = []

    def backend(graph: Any, inputs: Any, **given: Any) -> Any:
        asked.append(given["options"])
        return TorchTensorRTModule(graph.forward) if takes_a_part else graph.forward

    torch._dynamo.register_backend(backend, name="torch_tensorrt")
    try:
        runtime = TorchTensorRT("float32", [1])
        source, hardware = ModelSource("tiny", tiny_model), Hardware("cpu", 1, artifacts)
        if not takes_a_part:
            with pytest.raises(Unsupported, match="converted no part of the model"):
                runtime.load(source, hardware, lambda name: nullcontext())
            return
        runtime.load(source, hardware, lambda name: nullcontext())
        assert runtime.counters()["tensorrt_engines"] == len(asked) == 2  # the prefill and the step
        assert [options["attn_bias_is_causal"] for options in asked] == [False, False]
        assert all(options["pass_through_build_failures"] for options in asked)
        runtime.close()
    finally:
        torch._dynamo.backends.registry._COMPILER_FNS.pop("torch_tensorrt", None)
        torch._dynamo.backends.registry._BACKENDS.pop("torch_tensorrt", None)
        gc.collect()


@pytest.fixture
def on_card(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with card(monkeypatch):
        yield


def loaded(name: str, capability: str | None, model: Path, artifacts: Path) -> TensorRTPlan:
    runtime = fake_plan(name)
    hardware = Hardware("cuda", 1, artifacts, capability)
    runtime.load(ModelSource("tiny", model), hardware, lambda name: nullcontext())
    return runtime


@pytest.mark.usefixtures("on_card")
def test_float32_is_built_without_tf32_and_nothing_is_compiled_while_it_is_timed(
    tiny_model: Path, artifacts: Path
) -> None:
    plain, rtx = (loaded(name, "8.9", tiny_model, artifacts) for name in ("tensorrt", "tensorrt_rtx"))
    assert [plan_of(one)["flags"] for one in (plain, rtx)] == [[], []]
    assert [plan_of(one)["capabilities"] for one in (plain, rtx)] == [[], ["8.9"]]
    assert plain._engine.asked == [fake_tensorrt.Allocation.USER_MANAGED] * 2
    for options in rtx._engine.asked:
        assert options.strategy is fake_tensorrt.Allocation.USER_MANAGED
        assert options.dynamic_shapes_kernel_specialization_strategy is fake_tensorrt.Specialization.NONE


@pytest.mark.usefixtures("on_card")
def test_engines_of_rtx_are_kept_by_architecture(tiny_model: Path, artifacts: Path) -> None:
    built = [plan_of(loaded("tensorrt_rtx", one, tiny_model, artifacts))["capabilities"] for one in ("7.5", "8.6")]
    assert built == [["7.5"], ["8.6"]]
    assert plan_of(loaded("tensorrt_rtx", None, tiny_model, artifacts))["capabilities"] == []


@pytest.mark.usefixtures("on_card")
def test_both_contexts_share_what_the_shapes_need(tiny_model: Path, artifacts: Path) -> None:
    runtime = loaded("tensorrt", None, tiny_model, artifacts)
    cache = runtime.new_cache(2, 20)
    runtime.forward(torch.ones(2, 12, dtype=torch.long), [12, 12], cache)
    prompt, step = runtime._contexts
    held = runtime._memory
    assert held is not None
    assert held.numel() == prompt.needed_bytes < 8 * 64 * 64 * 64  # of the largest shape
    runtime.forward(torch.ones(2, 1, dtype=torch.long), [1, 1], cache)
    assert runtime._memory is held
    assert step.given_bytes == prompt.given_bytes > step.needed_bytes


@pytest.mark.usefixtures("on_card")
def test_a_shape_beyond_the_profile_is_named_with_its_bounds(tiny_model: Path, artifacts: Path) -> None:
    runtime = loaded("tensorrt", None, tiny_model, artifacts)
    expected = r"takes ids from \(1, 1\) to \(8, 64\) and was given \(9, 4\): raise runtime.engine.max_batch or"
    with pytest.raises(RuntimeError, match=expected):
        runtime.forward(torch.ones(9, 4, dtype=torch.long), [4] * 9)


@pytest.mark.usefixtures("on_card")
def test_an_engine_has_slots_for_what_is_asked_for(tiny_model: Path, artifacts: Path) -> None:
    runtime = fake_plan(bounds=(8, None))
    source = ModelSource("tiny", tiny_model, max_tokens=64)
    traits = runtime.load(source, Hardware("cuda", 1, artifacts), lambda name: nullcontext())
    assert (traits.max_length, len(runtime._slots_N)) == (64, 128)


@pytest.mark.slow
@pytest.mark.usefixtures("on_card")
def test_texts_up_to_the_last_token_may_be_guessed_for_and_scored_together(tiny_model: Path, artifacts: Path) -> None:
    """Guesses and padding stand behind the last token that an engine is built for."""
    runtime = fake_plan(bounds=(8, 32))
    traits = runtime.load(ModelSource("t", tiny_model), Hardware("cuda", 1, artifacts), lambda name: nullcontext())
    requests = [GenerateRequest(tuple(range(8, 24)), 16)]
    ((text,),) = generate(runtime, traits, requests, lambda ids: str, drafter=Lookup(6))
    assert len(text.ids) == 16
    long, short = tuple(range(3, 31)), tuple(range(40, 63))
    scored = [ScoreRequest((*long, 5, 6, choice, 7), len(long)) for choice in (8, 9)]
    scored += [ScoreRequest((*short, *range(64, 72), choice), len(short)) for choice in (8, 9)]
    assert len(score(runtime, traits, scored, ScoringConfig())) == 4
    with pytest.raises(ValueError, match=r"64 slots per row, and 65 are needed: raise runtime\.engine\.max_tokens"):
        runtime.new_cache(1, 65)


@pytest.mark.usefixtures("on_card")
def test_a_context_is_set_anew_when_the_memory_moved(tiny_model: Path, artifacts: Path) -> None:
    runtime = loaded("tensorrt", None, tiny_model, artifacts)
    cache, step = runtime.new_cache(1, 20), torch.ones(1, 1, dtype=torch.long)
    runtime.forward(torch.ones(1, 4, dtype=torch.long), [4], cache)
    before = runtime.forward(step, [1], cache).logits_BKV.cpu()
    assert True in runtime._ready
    runtime.forward(torch.ones(4, 12, dtype=torch.long), [12] * 4)  # needs more memory than both had
    assert True not in runtime._ready
    cache.rewind([4])
    torch.testing.assert_close(runtime.forward(step, [1], cache).logits_BKV.cpu(), before)


@pytest.mark.usefixtures("on_card")
def test_what_tensorrt_says_of_memory_is_out_of_memory(tiny_model: Path, artifacts: Path) -> None:
    runtime = loaded("tensorrt", None, tiny_model, artifacts)
    for said, status in (
        ("[defaultAllocator.cpp::allocateAsync::48] Error Code 1: Cuda Runtime (out of memory)", "out_of_memory"),
        ("Error Code 2: OutOfMemory (Requested size was 8589934592 bytes.)", "out_of_memory"),
        ("Error Code 9: no kernel for this GPU", "unsupported"),
    ):
        runtime._logger.log(fake_tensorrt.Severity.ERROR, said)
        found, reason = classify(refusal("TensorRT cannot run its engine on this GPU", runtime._logger))
        assert (found, said in reason) == (status, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "says"),
    [
        ((8, 0), "TensorRT-RTX has no kernels for compute capability 8.0, only for 7.5, 8.6, 8.9, 12.0, 12.1"),
        ((9, 0), "TensorRT-RTX has no kernels for compute capability 9.0"),
        ((8, 9), None),
    ],
)
def test_auto_takes_rtx_where_it_has_kernels(
    capability: tuple[int, int], says: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With fakes of both packages, installed as they are in an environment with the extra tensorrt-rtx."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    (tmp_path / "fake_rtx.py").write_text("")
    (tmp_path / "fake_trt.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    modules = {"tensorrt": ("absent_tensorrt",), "tensorrt_rtx": ("fake_rtx",)}
    monkeypatch.setattr(tensorrt, "_MODULES", modules)
    runtime = TensorRT()
    if says is None:
        assert runtime._select_backend(Hardware("cuda", 1))[0] == "tensorrt_rtx"
        return
    with pytest.raises(Unsupported) as caught:
        runtime.check(Hardware("cuda", 1))
    assert says in str(caught.value)
    assert "pip install 'runtime-matrix[tensorrt]'" in str(caught.value)
    monkeypatch.setattr(tensorrt, "_MODULES", modules | {"tensorrt": ("fake_trt",)})
    assert runtime._select_backend(Hardware("cuda", 1))[0] == "tensorrt"


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RTX, reason="tensorrt-rtx is not installed: pip install 'runtime-matrix[tensorrt-rtx]'")
@pytest.mark.parametrize("name", ["t4", "rtx4090", "h100"])
def test_rtx_builds_for_the_profiles_architecture(name: str, tiny_model: Path, artifacts: Path) -> None:
    hw = compose([f"hw={name}", "model=random"])["hw"]
    hardware = Hardware("cpu", 1, artifacts, hw["facts"]["compute_capability"])
    dtype = "float16" if name == "t4" else "float32"  # RTX has no float32 products for Turing, and says so
    with pytest.raises(Unsupported) as caught:
        TensorRT(dtype, "tensorrt_rtx", build_only=True, max_batch=2, max_tokens=32).load(
            ModelSource("tiny", tiny_model), hardware, lambda name: nullcontext()
        )
    said = {"t4": "GPU of compute capability 7.5 runs it", "rtx4090": "GPU of compute capability 8.9 runs it"}
    assert said.get(name, "has no kernels for compute capability 9.0") in str(caught.value)
