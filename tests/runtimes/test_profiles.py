"""How the engines' profilers are read: kinds of operations, and nodes that another provider executed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime_matrix.runtimes.engines import onnx_profile, torch_profile

TORCH = {
    "aten::mm": "products",
    "aten::addmm": "products",
    "aten::_weight_int4pack_mm_for_cpu": "products",
    "aten::_scaled_dot_product_flash_attention_for_cpu": "attention",
    "bitsandbytes::gemv_4bit": "quantization",
    "aten::_to_copy": "casts",
    "aten::copy_": "copies",
    "aten::mul": "elementwise",
    "Torch-Compiled Region: 0/0": "compiled",
}
ONNX = {
    "MatMulNBits": "products",
    "FusedMatMul": "products",
    "DynamicQuantizeLinear": "quantization",
    "Cast": "casts",
    "Transpose": "copies",
    "Softmax": "attention",
    "Mul": "elementwise",
}


@pytest.mark.parametrize(("name", "kind"), TORCH.items())
def test_operations_of_torch_are_sorted(name: str, kind: str) -> None:
    assert torch_profile.KINDS.of(name) == kind


@pytest.mark.parametrize(("name", "kind"), ONNX.items())
def test_nodes_of_onnx_runtime_are_sorted(name: str, kind: str) -> None:
    assert onnx_profile.KINDS.of(name) == kind


def test_a_trace_is_summed_and_other_providers_are_a_fallback(tmp_path: Path) -> None:
    def node(name: str, provider: str, microseconds: int) -> dict[str, object]:
        arguments = {"op_name": name, "provider": provider}
        return {"cat": "Node", "name": f"n_{name}_kernel_time", "dur": microseconds, "args": arguments}

    trace = tmp_path / "trace.json"
    events = [
        node("MatMul", "CUDAExecutionProvider", 30),
        node("MatMul", "CUDAExecutionProvider", 20),
        node("MatMul", "CPUExecutionProvider", 7),
        {"cat": "Node", "name": "n_fence_before", "dur": 9, "args": {"op_name": "MatMul"}},
        {"cat": "Session", "name": "model_run", "dur": 90},
    ]
    trace.write_text(json.dumps(events))
    found = onnx_profile.operations(trace, "CUDAExecutionProvider")
    assert [(one.kind, one.name, round(one.seconds, 9), one.calls) for one in found] == [
        ("products", "MatMul", 50e-6, 2),
        ("fallback", "MatMul", 7e-6, 1),
    ]
