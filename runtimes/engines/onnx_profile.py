"""The nodes of an ONNX Runtime session, from the trace that its own profiler writes."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from runtime_matrix.runtimes.operations import Kinds, Operation

KINDS = Kinds((
    ("quantization", r"^(Dynamic)?(Dequantize|Quantize)Linear$|^DynamicQuantizeLinear$"),
    ("attention", r"Attention|Softmax"),
    ("products", r"MatMul|Gemm"),
    ("casts", r"^Cast"),
    ("copies", r"^Memcpy|^(Concat|Expand|Gather|Slice|Split|Transpose|ScatterND|ScatterElements)$"),
))  # fmt: skip


def operations(trace: Path, provider: str) -> list[Operation]:
    """Return the nodes of a trace; those that another provider than `provider` executed are of the kind fallback."""
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    calls: dict[tuple[str, str], int] = defaultdict(int)
    for event in json.loads(trace.read_text(encoding="utf-8")):
        if event.get("cat") != "Node" or not event.get("name", "").endswith("_kernel_time"):
            continue
        node = (event["args"]["op_name"], event["args"].get("provider") or provider)
        seconds[node] += event["dur"] / 1e6
        calls[node] += 1
    return [
        Operation(KINDS.of(name) if where == provider else "fallback", name, seconds[name, where], calls[name, where])
        for name, where in seconds
    ]
