from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from runtime_matrix.runtimes.base import Hardware, ModelSource, Unsupported
from runtime_matrix.runtimes.engines.onnxruntime import OnnxRuntime


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")  # ONNX Runtime's own words for its silent fallback
def test_a_provider_that_is_listed_and_cannot_load_is_no_silent_fallback(
    tiny_model: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: listed)
    runtime = OnnxRuntime(provider="CUDAExecutionProvider")
    with pytest.raises(Unsupported, match="asked for CUDAExecutionProvider and runs CPUExecutionProvider"):
        runtime.load(ModelSource("tiny", tiny_model), Hardware("cpu", 1, artifacts), lambda name: nullcontext())


def test_a_provider_that_is_not_listed_names_the_extra(tiny_model: Path, artifacts: Path) -> None:
    runtime = OnnxRuntime(provider="TensorrtExecutionProvider")
    with pytest.raises(Unsupported, match="install the extra onnx-gpu"):
        runtime.load(ModelSource("tiny", tiny_model), Hardware("cpu", 1, artifacts), lambda name: nullcontext())
