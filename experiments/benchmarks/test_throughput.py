"""Offline throughput: how many tokens a second come out when all requests are there from the start."""

import random

from pytest_benchmark.fixture import BenchmarkFixture

from runtime_matrix.experiments.benchmarks.plugin import Bench, OpenEntry
from runtime_matrix.experiments.cells import device
from runtime_matrix.experiments.config import GenerationConfig
from runtime_matrix.experiments.core.decoding import random_prompts
from runtime_matrix.experiments.core.generation import generate
from runtime_matrix.experiments.core.rows import GenerateRequest
from runtime_matrix.experiments.measurement.energy import EnergyMeter


def test_throughput(bench: Bench, entry: OpenEntry, benchmark: BenchmarkFixture) -> None:
    asked = bench.cell.config.benchmark.throughput
    assert asked is not None
    seed = bench.cell.config.seed
    drawn = random.Random(seed)
    shortest, longest = min(asked.prompt_tokens), max(asked.prompt_tokens)
    lengths = [drawn.randint(shortest, longest) for _ in range(asked.requests)]
    prompts = random_prompts(asked.requests, longest, bench.traits.vocabulary, seed)
    requests = [
        GenerateRequest(tuple(prompt[:length]), asked.new_tokens)
        for prompt, length in zip(prompts, lengths, strict=True)
    ]

    meter = EnergyMeter(bench.hardware_device, device.uuid())
    options = GenerationConfig(token_budget=asked.token_budget)

    def once() -> None:
        with meter.measure():  # the last round's reading stays: the warm-up comes before it
            generate(bench.runtime, bench.traits, requests, lambda ids: lambda token: "", options=options)
            bench.runtime.synchronize()

    benchmark.pedantic(once, rounds=1, warmup_rounds=1)
    assert benchmark.stats is not None
    seconds = benchmark.stats.stats.data[0]
    new_tokens = asked.requests * asked.new_tokens  # no end-of-text token is given, so no request stops early
    entry.parameters = {"requests": asked.requests, "prompt_tokens": sum(lengths), "new_tokens": new_tokens}
    entry.samples = {"total_s": [seconds]}
    entry.figures = {
        "tokens_per_s": new_tokens / seconds,
        "requests_per_s": asked.requests / seconds,
        **meter.figures(),
    }
