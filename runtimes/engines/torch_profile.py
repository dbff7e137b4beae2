"""The operations of a PyTorch engine, by torch.profiler: time of the processor, or on a GPU of its kernels."""

from __future__ import annotations

from collections.abc import Callable

import torch

from runtime_matrix.runtimes.operations import Kinds, Operation

KINDS = Kinds((
    ("quantization", r"quant|unpack|4bit|8bit|nf4|qparams|_shift|__[rl]shift__|bitwise"),
    ("attention", r"attention|softmax"),
    ("products", r"::(add|b|ba)?mm|matmul|linear|gemm|gemv|einsum|mkldnn|::dot|::mv\b|int_mm|pack_mm"),
    ("compiled", r"compiled|cpp_fused|triton|inductor"),
    ("casts", r"::(_to_copy|to|type|float|half)$"),
    ("copies", r"copy_|::(cat|clone|contiguous)$|memcpy"),
))  # fmt: skip


def profiled(work: Callable[[], None], device: str) -> list[Operation]:
    """Run `work` under torch.profiler and return its operations; on a GPU, only what its kernels took."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        work()
    operations = []
    for event in profiler.key_averages():
        microseconds = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        if microseconds > 0 and event.device_type.name == "CPU":
            operations.append(Operation(KINDS.of(event.key), event.key, microseconds / 1e6, event.count))
    return operations
