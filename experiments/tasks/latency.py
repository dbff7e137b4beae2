"""Time to first token and time per output token over a grid of batch × prompt × new tokens; all samples are kept."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.records.metric import Metric, figure, hidden, milliseconds, number, percentile_of
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry
from runtime_matrix.experiments.tasks.task import Scenario, Shape

_TIME = (
    "Median over interleaved launches of each launch's median; wall time at the cell's own threads. `alone` marks a "
    "cell that was not interleaved with others: an order of magnitude, not a comparison."
)
_TAIL = "The same steps, percentile of each launch. Unknown for a cell marked `alone` with fewer than {} samples."


@dataclass(frozen=True, kw_only=True)
class LatencyConfig:
    """Options of `latency`. Sizes are the grid's axes; the first of each fills the matrix."""

    batch: tuple[int, ...] = least(1)
    prompt_tokens: tuple[int, ...] = least(1)
    new_tokens: tuple[int, ...] = least(1)
    iterations: int = least(1, most=100_000)
    warmup: int = least(1)


def _decode_rate(entry: Entry) -> float | None:
    tpot, batch = percentile_of("tpot_s", 50)(entry), entry.parameter("batch")
    return batch / tpot if tpot and batch else None


def _prefill_rate(entry: Entry) -> float | None:
    ttft, batch, tokens = (
        percentile_of("ttft_s", 50)(entry),
        entry.parameter("batch"),
        entry.parameter("prompt_tokens"),
    )
    return batch * tokens / ttft if ttft and batch and tokens else None


class Latency(Scenario[LatencyConfig]):
    """Times one generation at a time, with prompts of a fixed shape."""

    name = "latency"
    title = "latency"
    data = "random prompts of a fixed shape"
    measures = "TTFT, TPOT and its tails, MBU, MFU"
    position = 10
    uses_hardware_peak = True
    Config = LatencyConfig
    metrics = (
        Metric(
            key="ttft_s_p50",
            title="TTFT p50",
            unit="ms",
            group="latency",
            rank=3,
            display=milliseconds,
            read=percentile_of("ttft_s", 50),
            trend="TTFT p50",
            about=f"Time to the first token. {_TIME}",
        ),
        Metric(
            key="tpot_s_p50",
            title="TPOT p50",
            unit="ms",
            group="latency",
            rank=2,
            display=milliseconds,
            read=percentile_of("tpot_s", 50),
            trend="TPOT p50",
            about=f"Time per output token. {_TIME}",
        ),
        Metric(
            key="tpot_s_p95",
            title="TPOT p95",
            unit="ms",
            group="latency",
            rank=6,
            display=milliseconds,
            read=percentile_of("tpot_s", 95),
            about=f"Time per output token, 95th percentile. {_TAIL.format(59)}",
        ),
        Metric(
            key="tpot_s_p99",
            title="TPOT p99",
            unit="ms",
            group="latency",
            display=milliseconds,
            read=percentile_of("tpot_s", 99),
            about=f"Time per output token, 99th percentile. {_TAIL.format(299)}",
        ),
        Metric(
            key="prefill_tokens_per_s",
            title="prefill",
            unit="tok/s",
            group="latency",
            rank=6,
            display=number("{:,.0f}"),
            read=_prefill_rate,
            about="Prompt tokens per second, from TTFT p50.",
        ),
        Metric(
            key="decode_tokens_per_s",
            title="decode",
            unit="tok/s",
            group="latency",
            rank=5,
            display=number("{:,.0f}"),
            read=_decode_rate,
            about="New tokens per second, from TPOT p50.",
        ),
        Metric(
            key="decode_mbu_ratio",
            title="MBU",
            group="latency",
            rank=5,
            display=number("{:.0f} %", 100),
            about="Model bandwidth utilisation: share of this machine's measured copy bandwidth that decoding reached.",
        ),
        Metric(
            key="prefill_mfu_ratio",
            title="MFU",
            group="latency",
            rank=5,
            display=number("{:.0f} %", 100),
            about="Model FLOPs utilisation: share of this machine's measured matmul rate that prefill reached.",
        ),
        Metric(
            key="latency_cpu_utilisation_ratio",
            title="CPU busy",
            unit="latency",
            group="latency",
            rank=8,
            display=number("{:.0f} %", 100),
            read=figure("cpu_utilisation_ratio"),
            about="CPU time of all rounds, warm-up included, divided by wall time and the cell's threads.",
        ),
        Metric(
            key="latency_gpu_utilisation_ratio",
            title="GPU busy",
            unit="latency",
            group="latency",
            rank=8,
            display=number("{:.0f} %", 100),
            read=figure("gpu_utilisation_ratio"),
            about="Share of the wall time of these rounds in which a kernel ran on the GPU, as sampled by its driver.",
        ),
        hidden("first_call_s", figure("first_call_s")),
    )

    @override
    def shapes(self, config: LatencyConfig) -> Sequence[Shape]:
        return [Shape(*sizes) for sizes in itertools.product(config.batch, config.prompt_tokens, config.new_tokens)]

    @override
    def timed_new_tokens(self, entry: Entry) -> int:
        return len(entry.samples["tpot_s"]) * int(entry.parameters["batch"])

    @override
    def grid(self, config: LatencyConfig) -> Sequence[str]:
        return [shape.name for shape in self.shapes(config)]

    @override
    def rows(self, config: LatencyConfig) -> int:
        return max(config.batch)

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: LatencyConfig, point: str) -> None:
        shape = next(shape for shape in self.shapes(config) if shape.name == point)
        bench.require_rows(shape.batch)
        prompts = bench.random_prompts(shape.batch, shape.prompt_tokens)
        entry.parameters = vars(shape).copy()
        first = bench.first_call(prompts, shape.new_tokens)
        with bench.utilisation() as utilisation:
            generations = bench.rounds(
                lambda: bench.timed_decode(prompts, shape.new_tokens), config.iterations, config.warmup
            )
        timers = [timer for timer, _ in generations]
        _, produced = generations[-1]
        entry.figures = {
            "first_call_s": first.total_s,
            "first_token_of_first_call_s": first.ttft_s,
            **utilisation.figures(),
        }
        entry.samples = {
            "ttft_s": [timer.ttft_s for timer in timers],
            "tpot_s": [sample for timer in timers for sample in timer.tpot_s],
            "total_s": [timer.total_s for timer in timers],
        }
        entry.timed_tokens = {"prompts": prompts[:1], "new": produced[:1], "banned": bench.banned_ids}
        assert [len(tokens) for tokens in produced] == [shape.new_tokens] * shape.batch


TASK = Latency()
