"""The operations of an OpenVINO request, from the times that it reports after each call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from runtime_matrix.runtimes.operations import Kinds, Operation

KINDS = Kinds((
    ("quantization", r"^(FakeQuantize|Quantize|Dequantize)"),
    ("attention", r"Attention|SDPA|^Softmax"),
    ("products", r"^(FullyConnected|MatMul|Gemm|QKVProjection|LLMMLP)"),
    ("casts", r"^Convert"),
    ("copies", r"^(Broadcast|Concat|Gather|Reorder|ScatterUpdate|Split|StridedSlice|Slice|Transpose|VariadicSplit)"),
    ("compiled", r"^Subgraph$"),
))  # fmt: skip


class Profiled:
    """A request of a model that is compiled with the property PERF_COUNT; it sums the times of its calls."""

    def __init__(self, request: Any):
        self._request = request
        self._seconds: dict[str, float] = defaultdict(float)
        self._calls: dict[str, int] = defaultdict(int)

    def infer(self, inputs: Any, **options: bool) -> Any:
        """Run the request and add the times of its operations."""
        results = self._request.infer(inputs, **options)
        for operation in self._request.profiling_info:
            if operation.status.name == "EXECUTED":
                self._seconds[operation.node_type] += operation.real_time.total_seconds()
                self._calls[operation.node_type] += 1
        return results

    def operations(self) -> Sequence[Operation]:
        """Return the operations of all calls."""
        return [Operation(KINDS.of(name), name, self._seconds[name], self._calls[name]) for name in self._seconds]
