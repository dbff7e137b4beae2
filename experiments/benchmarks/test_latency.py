"""Time to first token and time per output token, every sample kept, over a grid of batch × prompt × new tokens."""

from pytest_benchmark.fixture import BenchmarkFixture

from runtime_matrix.experiments.benchmarks.plugin import Bench, OpenEntry
from runtime_matrix.experiments.core.decoding import random_prompts
from runtime_matrix.experiments.measurement.clocks import StepTimer


def test_latency(bench: Bench, entry: OpenEntry, benchmark: BenchmarkFixture, shape: tuple[int, int, int]) -> None:
    batch, prompt_tokens, new_tokens = shape
    asked = bench.cell.config.benchmark.latency
    assert asked is not None
    bench.require_rows(batch)
    prompts = random_prompts(batch, prompt_tokens, bench.traits.vocabulary, bench.cell.config.seed)
    entry.parameters = {"batch": batch, "prompt_tokens": prompt_tokens, "new_tokens": new_tokens}
    timers: list[StepTimer] = []
    produced: list[list[int]] = []

    def once() -> None:
        timer, produced[:] = bench.generate(prompts, new_tokens)
        timers.append(timer)

    first = bench.first_call(prompts, new_tokens)
    benchmark.pedantic(once, rounds=asked.iterations, warmup_rounds=asked.warmup)
    measured = timers[asked.warmup :]
    entry.figures = {"first_call_s": first.total_s, "first_token_of_first_call_s": first.ttft_s}
    entry.samples = {
        "ttft_s": [timer.ttft_s for timer in measured],
        "tpot_s": [sample for timer in measured for sample in timer.tpot_s],
        "total_s": [timer.total_s for timer in measured],
    }
    entry.timed_tokens = {"prompts": prompts[:1], "new": produced[:1]}
    assert [len(row) for row in produced] == [new_tokens] * batch
