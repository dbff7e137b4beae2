"""Peak memory of loading, prefill and decoding, less what the process held before it loaded anything.

On a GPU the memory that the device has in use is sampled, since ONNX Runtime and TensorRT allocate outside torch: what
is free in torch's own cache is given back before each phase, and the shape has run once before.
"""

from contextlib import nullcontext
from typing import Any

from runtime_matrix.experiments.benchmarks.plugin import Bench, OpenEntry
from runtime_matrix.experiments.cells.device import give_back_free
from runtime_matrix.experiments.core.decoding import decode_batch, random_prompts
from runtime_matrix.experiments.measurement.memory import Sampler


def test_memory(bench: Bench, entry: OpenEntry) -> None:
    asked = bench.cell.config.benchmark.memory
    assert asked is not None
    bench.require_rows(asked.batch)
    prompts = random_prompts(asked.batch, asked.prompt_tokens, bench.traits.vocabulary, bench.cell.config.seed)
    bench.first_call(prompts, asked.new_tokens)
    on_device: dict[str, int | None] = {"load": bench.load_peak_device_bytes}
    for name, new_tokens in (("prefill", 1), ("decode", asked.new_tokens)):
        give_back_free(bench.hardware_device)
        sampler = Sampler(bench.device_used_bytes) if bench.device_used_bytes is not None else None
        device: Any = sampler or nullcontext()
        with device, bench.meter.phase(name):
            decode_batch(bench.runtime, bench.traits, prompts, new_tokens)
        on_device[name] = sampler.highest if sampler is not None else None
    on_host = {name: bench.meter.peaks_bytes[name] for name in on_device}
    entry.parameters = {"batch": asked.batch, "prompt_tokens": asked.prompt_tokens, "new_tokens": asked.new_tokens}
    entry.figures = {
        "peak_host_bytes": _highest(on_host),
        "peak_device_bytes": _highest(on_device),
        **{f"{name}_peak_host_bytes": peak for name, peak in on_host.items()},
        **{f"{name}_peak_device_bytes": peak for name, peak in on_device.items()},
    }


def _highest(peaks: dict[str, int | None]) -> int | None:
    return max((peak for peak in peaks.values() if peak is not None), default=None)
