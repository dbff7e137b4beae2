"""Peak memory of loading, prefill and decoding, less what the process held before it loaded anything.

On a GPU the device's used memory is sampled, since ONNX Runtime and TensorRT allocate outside torch.
"""

from contextlib import nullcontext
from typing import Any

from runtime_matrix.experiments.benchmarks.plugin import Bench, Entry
from runtime_matrix.experiments.core.decoding import decode_batch, random_prompts
from runtime_matrix.experiments.measurement.memory import Sampler


def test_memory(bench: Bench, entry: Entry) -> None:
    asked = bench.cell.config.benchmark.memory
    assert asked is not None
    bench.require_rows(asked.batch)
    prompts = random_prompts(asked.batch, asked.prompt_tokens, bench.traits.vocabulary, bench.cell.config.seed)
    sampler = Sampler(bench.device_used_bytes) if bench.device_used_bytes is not None else None
    device: Any = sampler or nullcontext()
    with device:
        with bench.meter.phase("prefill"):
            decode_batch(bench.runtime, bench.traits, prompts, 1)
        with bench.meter.phase("decode"):
            decode_batch(bench.runtime, bench.traits, prompts, asked.new_tokens)
    peaks = {name: bench.meter.peaks_bytes[name] for name in ("load", "prefill", "decode")}
    known = [peak for peak in peaks.values() if peak is not None]
    entry.parameters = {"batch": asked.batch, "prompt_tokens": asked.prompt_tokens, "new_tokens": asked.new_tokens}
    entry.figures = {
        "peak_host_bytes": max(known) if known else None,
        "peak_device_bytes": sampler.highest if sampler is not None else None,
        "torch_peak_device_bytes": _torch_peak(),
        **{f"{name}_peak_host_bytes": peak for name, peak in peaks.items()},
    }


def _torch_peak() -> int | None:
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
