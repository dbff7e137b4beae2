from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from runtime_matrix.runtimes.base import Hardware, ModelSource, Unsupported
from runtime_matrix.runtimes.engines import onnx_graph
from runtime_matrix.runtimes.engines.onnxruntime import OnnxRuntime, _provider_options, _session
from runtime_matrix.runtimes.weights.full import Full


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")  # ONNX Runtime's own words for its silent fallback
def test_a_provider_that_is_listed_and_cannot_load_is_no_silent_fallback(
    tiny_model: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: listed)
    runtime = OnnxRuntime(provider="CUDAExecutionProvider")
    with pytest.raises(Unsupported, match="replaced CUDAExecutionProvider with CPUExecutionProvider"):
        runtime.load(ModelSource("tiny", tiny_model), Hardware("cpu", 1, artifacts), lambda name: nullcontext())


def test_a_provider_that_is_not_listed_names_the_extra(tiny_model: Path, artifacts: Path) -> None:
    runtime = OnnxRuntime(provider="TensorrtExecutionProvider")
    with pytest.raises(Unsupported, match="install the extra onnx-gpu"):
        runtime.load(ModelSource("tiny", tiny_model), Hardware("cpu", 1, artifacts), lambda name: nullcontext())


def test_on_a_gpu_float32_is_not_tf32_and_the_arena_grows_by_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the session, since the package for CPUs has no such provider."""
    import onnxruntime

    asked: list[Any] = []

    def session(graph: Path, options: Any, providers: list[Any]) -> Any:
        asked.extend(providers)
        return SimpleNamespace(get_providers=lambda: [name for name, _ in providers])

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    _session(Path("graph"), "CUDAExecutionProvider", lambda: _provider_options("CUDAExecutionProvider", 77), 1)
    _session(Path("graph"), "CPUExecutionProvider", lambda: _provider_options("CPUExecutionProvider", 0), 1)
    on_gpu = {"use_tf32": "0", "device_id": "1", "user_compute_stream": "77"}
    on_gpu["arena_extend_strategy"] = "kSameAsRequested"
    assert asked == [("CUDAExecutionProvider", on_gpu), ("CPUExecutionProvider", {})]


def test_on_a_gpu_another_provider_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It promises nothing for a cache whose new state is written over the old one."""
    name = "TensorrtExecutionProvider"
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [name])
    with pytest.raises(Unsupported, match="leave the provider out, or use runtime=tensorrt or hw=cpu"):
        OnnxRuntime(provider=name).check(Hardware("cuda", 1))


class Calibrated(Full):
    needs_calibration = True


def test_weights_that_need_a_calibration_text_are_refused_before_loading() -> None:
    with pytest.raises(Unsupported, match="weights that need calibration cannot be exported as a graph"):
        OnnxRuntime(weights=Calibrated()).check(Hardware("cpu", 1))


@pytest.mark.parametrize(
    ("architecture", "length"),
    [
        ({"model_type": "gpt2", "n_positions": 96}, 96),
        ({"model_type": "llama", "max_position_embeddings": 64}, 64),
        ({"model_type": "llama"}, 2048),  # transformers' default, which eager reports too
    ],
)
def test_the_length_of_a_random_model_is_that_of_its_configuration(architecture: dict[str, Any], length: int) -> None:
    assert onnx_graph.context_length(ModelSource("random", architecture=architecture)) == length
