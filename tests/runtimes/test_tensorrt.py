"""TensorRT without a GPU: what it says, and the engine that RTX builds all the same. Running one needs a GPU."""

from __future__ import annotations

import gc
import importlib.util
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from typing_extensions import override

from runtime_matrix.runtimes import artifacts as cache
from runtime_matrix.runtimes.base import Hardware, ModelSource, Unsupported
from runtime_matrix.runtimes.engines import tensorrt
from runtime_matrix.runtimes.engines.tensorrt import TensorRT
from runtime_matrix.runtimes.engines.torch_tensorrt import TorchTensorRT

HAS_RTX = importlib.util.find_spec("tensorrt_rtx_bindings") is not None


def why_not(runtime: TensorRT, model: Path, artifacts: Path) -> str:
    with pytest.raises(Unsupported) as caught:
        runtime.load(ModelSource("tiny", model), Hardware("cpu", 1, artifacts), lambda name: nullcontext())
    runtime.close()
    return str(caught.value)


def test_without_a_gpu_it_says_what_is_needed_found_and_possible(tiny_model: Path, artifacts: Path) -> None:
    reason = why_not(TensorRT(), tiny_model, artifacts)
    assert "needs an NVIDIA GPU; found torch" in reason
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
def test_rtx_builds_an_engine_without_a_gpu_and_finds_it_again(tmp_path: Path) -> None:
    bundled = Path("experiments/bundled/model")
    made = why_not(TensorRT(backend="tensorrt_rtx", build_only=True), bundled, tmp_path)
    assert "the engine is built" in made
    plans = list(tmp_path.glob("tensorrt/*/model.plan"))
    assert len(plans) == 1
    assert plans[0].stat().st_size > 2**20  # the weights are within
    before = cache.tally["built"]
    assert why_not(TensorRT(backend="tensorrt_rtx", build_only=True), bundled, tmp_path) == made
    assert cache.tally["built"] == before


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
            with pytest.raises(Unsupported, match="took no part of the model"):
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


class Context:
    """Stands for an execution context: it takes shapes within its bounds, as TensorRT says by a returned bool."""

    def __init__(self, most: int):
        self.most = most

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return shape[0] <= self.most

    def set_tensor_address(self, name: str, address: int) -> None:
        pass


class Engine:
    """Stands for an engine of two profiles."""

    def get_tensor_profile_shape(self, name: str, profile: int) -> tuple[tuple[int, ...], ...]:
        return ((1, 1), (1, 64), (8, 256))


def test_a_shape_beyond_the_profile_is_named_with_its_bounds() -> None:
    from runtime_matrix.runtimes.engines.past import PastCache, PastShape
    from runtime_matrix.runtimes.engines.tensorrt_plan import TensorRTPlan

    plan = TensorRTPlan(None, "float32", (8, 256))
    plan._shape, plan._held_names, plan._logits_dtype = PastShape(2, 2, 4, torch.float32, "cpu"), [], torch.float32
    plan._contexts, plan._engine = [Context(8), Context(8)], Engine()
    ids = torch.ones(9, 4, dtype=torch.int64)
    with pytest.raises(
        RuntimeError, match=r"takes ids from \(1, 1\) to \(8, 256\) and was given \(9, 4\): raise runtime"
    ):
        plan._execute({"ids": ids}, PastCache(plan._shape, 9, 4), (9, 1, 16), True)
