"""Peak memory of loading, prefill and decoding, above what the process held before loading.

On a GPU, the device's used memory is sampled, because ONNX Runtime and TensorRT allocate outside torch. Free blocks of
torch's cache are released before each phase, and each shape has run once before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.records.metric import Metric, figure, number, with_interval
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.task import Scenario, Shape

_MIB = 2**-20
# Half of the difference at which two peaks differ. Repeats of a cell were within 0.4 % in one sweep and 3 % between
# sweeps. Some small ones were 16 MiB apart, because of a library's buffers: 58, 58, 59 and 74 MiB for `eager`.
_PEAK_NOISE, _PEAK_NOISE_BYTES = 0.02, 8 * 2**20


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """Options of `memory`: the size of its one load."""

    batch: int = least(1)
    prompt_tokens: int = least(1)
    new_tokens: int = least(1)


class Memory(Scenario[MemoryConfig]):
    """Measures the memory peaks of one load."""

    name = "memory"
    title = "memory"
    data = "random prompts"
    measures = "peak bytes of host and device while loading, prefilling and decoding"
    position = 30
    first = True  # engines do not release what a larger batch needed
    times_rounds = False
    Config = MemoryConfig
    metrics = (
        Metric(
            key="peak_host_bytes",
            title="peak",
            unit="MiB",
            group="memory",
            rank=3,
            better="low",
            display=number("{:,.0f}", _MIB),
            read=figure("peak_host_bytes"),
            noise_ratio=_PEAK_NOISE,
            noise_floor=_PEAK_NOISE_BYTES,
            is_of_machine=True,
            trend="peak",
            about="Peak resident memory of the process and its live children during loading, prefill and decoding, "
            "minus what the process held after its imports.",
        ),
        Metric(
            key="estimated_peak_bytes",
            title="estimated peak",
            unit="MiB",
            group="memory",
            rank=6,
            display=with_interval("{:,.0f}", _MIB),
            is_of_machine=True,
            about="Peak memory as estimated before loading, from what the runtime, its weights and its placement "
            "declare.",
        ),
        Metric(
            key="peak_device_bytes",
            title="device peak",
            unit="MiB",
            group="memory",
            rank=3,
            better="low",
            display=number("{:,.0f}", _MIB),
            read=figure("peak_device_bytes"),
            noise_ratio=_PEAK_NOISE,
            is_of_machine=True,
            about="Peak used memory of the device, over all processes, minus what was in use before loading (sampled).",
        ),
        Metric(
            key="weight_bytes",
            title="weights",
            unit="MiB",
            group="memory",
            rank=4,
            better="low",
            display=number("{:,.1f}", _MIB),
            noise_ratio=0.0,
            about="Size of the weights in memory.",
        ),
        Metric(
            key="kv_bytes_per_token",
            title="KV cache",
            unit="B/token",
            group="memory",
            rank=5,
            better="low",
            display=number("{:,.0f}"),
            noise_ratio=0.0,
            about="Bytes that a token of a row adds to the cache of keys and values, over all layers.",
        ),
        Metric(
            key="freed_host_bytes",
            title="freed",
            unit="MiB",
            group="memory",
            rank=6,
            display=number("{:,.0f}", _MIB),
            is_of_machine=True,
            about="Memory of the host that the process gave back when the runtime was closed.",
        ),
        Metric(
            key="freed_device_bytes",
            title="device freed",
            unit="MiB",
            group="memory",
            rank=6,
            display=number("{:,.0f}", _MIB),
            is_of_machine=True,
            about="Memory of the device that was in use no more when the runtime was closed.",
        ),
    )

    @override
    def shapes(self, config: MemoryConfig) -> Sequence[Shape]:
        return [Shape(config.batch, config.prompt_tokens, config.new_tokens)]

    @override
    def rows(self, config: MemoryConfig) -> int:
        return config.batch

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: MemoryConfig, point: str) -> None:
        bench.require_rows(config.batch)
        prompts = bench.random_prompts(config.batch, config.prompt_tokens)
        bench.first_call(prompts, config.new_tokens)
        on_host: dict[str, int | None] = {"load": bench.load_peak_host_bytes}
        on_device: dict[str, int | None] = {"load": bench.load_peak_device_bytes}
        for phase, new_tokens in (("prefill", 1), ("decode", config.new_tokens)):
            with bench.peak_memory(phase) as peak:
                bench.decode(prompts, new_tokens)
            on_host[phase], on_device[phase] = peak.host_bytes, peak.device_bytes
        entry.parameters = vars(config).copy()
        entry.figures = {
            "peak_host_bytes": _highest(on_host.values()),
            "peak_device_bytes": _highest(on_device.values()),
            **{f"{phase}_peak_host_bytes": peak for phase, peak in on_host.items()},
            **{f"{phase}_peak_device_bytes": peak for phase, peak in on_device.items()},
        }


def _highest(peaks: Iterable[int | None]) -> int | None:
    return max((peak for peak in peaks if peak is not None), default=None)


TASK = Memory()
