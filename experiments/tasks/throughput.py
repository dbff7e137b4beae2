"""Offline throughput: new tokens per second when all requests are available from the start."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from typing_extensions import override

from runtime_matrix.experiments.config.validate import least
from runtime_matrix.experiments.evaluation.requests import GenerateRequest
from runtime_matrix.experiments.records.metric import NOT_INTERLEAVED, Metric, figure, number, quotient
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.tasks.bench import Bench, Figures, OpenEntry
from runtime_matrix.experiments.tasks.task import Scenario, Shape


@dataclass(frozen=True, kw_only=True)
class ThroughputConfig:
    """Options of `throughput`. Prompt lengths are drawn between the smallest and largest of `prompt_tokens`."""

    requests: int = least(1)
    prompt_tokens: tuple[int, ...] = least(1)
    new_tokens: int = least(1)
    token_budget: int = least(1)


class Throughput(Scenario[ThroughputConfig]):
    """Generates for many requests of varied lengths, batched within a token budget."""

    name = "throughput"
    title = "throughput"
    data = "random requests of varied lengths, all available from the start"
    measures = "tokens/s, batch size reached, energy"
    position = 20
    Config = ThroughputConfig
    metrics = (
        Metric(
            key="throughput_tokens_per_s",
            title="offline",
            unit="tok/s",
            group="throughput",
            rank=6,
            display=number("{:,.0f}"),
            read=figure("tokens_per_s"),
            about=f"All requests are available from the start. {NOT_INTERLEAVED}",
        ),
        Metric(
            key="throughput_rows_per_step",
            title="offline batch",
            unit="rows",
            group="throughput",
            rank=8,
            display=number("{:.1f}"),
            read=quotient("step_rows", "steps"),
            about="Mean number of rows per decode step: the batch size that was reached.",
        ),
        Metric(
            key="throughput_cpu_utilisation_ratio",
            title="CPU busy",
            unit="offline",
            group="throughput",
            rank=8,
            display=number("{:.0f} %", 100),
            read=figure("cpu_utilisation_ratio"),
            about="CPU time of the timed round divided by wall time and the cell's threads.",
        ),
        Metric(
            key="throughput_gpu_utilisation_ratio",
            title="GPU busy",
            unit="offline",
            group="throughput",
            rank=8,
            display=number("{:.0f} %", 100),
            read=figure("gpu_utilisation_ratio"),
            about="Share of the timed round in which a kernel ran on the GPU, as sampled by its driver.",
        ),
        Metric(
            key="energy_j_per_token",
            title="energy",
            unit="J/tok",
            group="cost",
            rank=5,
            display=number("{:.3f}"),
            about=f"From the device's energy counter, which includes everything else that ran. {NOT_INTERLEAVED}",
        ),
    )

    @override
    def shapes(self, config: ThroughputConfig) -> Sequence[Shape]:
        return [Shape(config.requests, max(config.prompt_tokens), config.new_tokens)]

    @override
    def timed_new_tokens(self, entry: Entry) -> int:
        return int(entry.parameters["new_tokens"])

    @override
    def with_token_budget(self, config: ThroughputConfig, tokens: int) -> ThroughputConfig:
        return replace(config, token_budget=tokens)

    @override
    def run(self, bench: Bench, entry: OpenEntry, config: ThroughputConfig, point: str) -> None:
        generator = random.Random(bench.seed)
        shortest, longest = min(config.prompt_tokens), max(config.prompt_tokens)
        lengths = [generator.randint(shortest, longest) for _ in range(config.requests)]
        prompts = bench.random_prompts(config.requests, longest)
        requests = [
            GenerateRequest(tuple(prompt[:length]), config.new_tokens)
            for prompt, length in zip(prompts, lengths, strict=True)
        ]
        energy = bench.energy()

        def timed_round() -> tuple[float, Figures, Figures]:
            with energy.measure(), bench.utilisation() as utilisation:  # the meter keeps the last round's reading
                start = time.perf_counter()
                report = bench.generate(requests, config.token_budget)
                seconds = time.perf_counter() - start
            return seconds, report, utilisation.figures()

        ((seconds, report, busy),) = bench.rounds(timed_round, rounds=1, warmup=1)
        new_tokens = config.requests * config.new_tokens  # no end-of-text token is given, so no request stops early
        entry.parameters = {"requests": config.requests, "prompt_tokens": sum(lengths), "new_tokens": new_tokens}
        entry.samples = {"total_s": [seconds]}
        entry.figures = {
            "tokens_per_s": new_tokens / seconds,
            "requests_per_s": config.requests / seconds,
            "steps": report["steps"],
            "step_rows": report["step_rows"],
            **busy,
            **energy.figures(),
        }


TASK = Throughput()
