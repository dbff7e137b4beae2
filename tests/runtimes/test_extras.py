"""What an engine imports is in the extra that its messages name: read from the sources and `pyproject.toml`."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ONNX = ("engines/onnxruntime.py", "engines/exported_graph.py", "engines/onnx_graph.py", "weights/onnx_packed.py")
TENSORRT = tuple(
    f"engines/{name}.py" for name in ("tensorrt", "tensorrt_plan", "tensorrt_build", "onnx_graph", "static_graph")
)
EXTRAS = {
    "onnx": ONNX,
    "onnx-gpu": ONNX,
    "tensorrt": (*TENSORRT, "engines/torch_tensorrt.py"),
    "tensorrt-rtx": TENSORRT,
    "openvino": tuple(f"engines/{name}.py" for name in ("openvino", "exported_graph", "onnx_graph")),
    "llamacpp": (
        *(f"engines/{name}.py" for name in ("llamacpp", "llamacpp_library", "llamacpp_context", "llamacpp_cache")),
        *(f"weights/{name}.py" for name in ("gguf_file", "gguf_tensors", "gguf_tokenizer", "gguf_blocks")),
    ),
    "gptq": ("weights/gptq.py", "weights/gptq_worker.py"),
    "awq": ("weights/gptq.py", "weights/gptq_worker.py"),
    "quant": ("weights/torchao.py", "weights/bitsandbytes.py"),
    "offload": ("placements/offload.py",),
    "adapters": ("weights/adapter.py",),
}
BROUGHT = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "numpy": ("numpy",)}  # where names differ


def wanted(path: Path) -> set[str]:
    """Return the packages that a module imports anywhere or requires by name."""
    tree, names = ast.parse(path.read_text()), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require":
            names |= {str(part.value) for part in node.args[:1] if isinstance(part, ast.Constant)}
    first = {name.partition(".")[0] for name in names}
    return first - set(sys.stdlib_module_names) - {"runtime_matrix"}


def brought(extra: str) -> set[str]:
    lines = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra]]
    return {re.split(r"[<>=\[ ;]", line)[0].lower() for line in lines}


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_what_its_engine_imports(extra: str) -> None:
    there = brought(extra)
    missing = {
        name
        for part in EXTRAS[extra]
        for name in wanted(ROOT / "runtimes" / part)
        if not there & set(BROUGHT.get(name, (name.lower(), name.lower().replace("_", "-"))))
    }
    if "onnxruntime" in missing and not extra.startswith("onnx"):
        missing.remove("onnxruntime")  # of packed graphs, which name the extra onnx
    assert missing == set()
