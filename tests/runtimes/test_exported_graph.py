"""What a graph's file says is what the engine that opens it says."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from runtime_matrix.runtimes.base import Hardware, ModelSource
from runtime_matrix.runtimes.engines import exported_graph
from runtime_matrix.runtimes.engines.graph_forms import Form, Past, Static
from runtime_matrix.runtimes.weights.full import Full


@pytest.mark.parametrize("form", [Past(), Static()])
def test_the_file_says_what_the_session_says(form: Form, tiny_model: Path, artifacts: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    source, hw = ModelSource("tiny", tiny_model), Hardware("cpu", 1, artifacts)
    graph = exported_graph.load(source, Full(), "float32", hw, lambda name: nullcontext(), form, "onnxruntime")
    session = onnxruntime.InferenceSession(graph.path, providers=["CPUExecutionProvider"])
    inputs = {value.name: value for value in session.get_inputs()}
    assert list(graph.held_names) == [name for name in inputs if "." in name]
    assert [inputs[graph.held_names[0]].shape[axis] for axis in (1, 3)] == [graph.heads, graph.width]
    assert session.get_outputs()[0].shape[-1] == graph.vocabulary
    assert graph.has_positions == ("positions" in inputs)
    assert (graph.dtype, graph.logits_dtype) == (torch.float32, torch.float32)
