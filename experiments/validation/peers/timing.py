"""Decoding speed of the bundled model, measured by optimum-benchmark and by our timers: one row, 64 + 32 tokens, eager.

`python -m experiments.validation.peers.timing --peer PYTHON`, where PYTHON has optimum-benchmark. Each turn is a fresh
process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Sequence

from runtime_matrix.experiments.validation.peers.results import Timed
from runtime_matrix.experiments.validation.peers.workloads import MODEL_DIR

_THEIRS = """
import json, sys
from optimum_benchmark import Benchmark, BenchmarkConfig, InferenceConfig, InlineConfig, PyTorchConfig
threads = int(sys.argv[2])
scenario = InferenceConfig(
    latency=True, memory=False, iterations=10, warmup_runs=2, duration=0,
    input_shapes={"batch_size": 1, "sequence_length": 64},
    generate_kwargs={"max_new_tokens": 32, "min_new_tokens": 32},
)
backend = PyTorchConfig(
    model=sys.argv[1], task="text-generation", library="transformers", device="cpu", torch_dtype="float32",
    inter_op_num_threads=1, intra_op_num_threads=threads,
)
config = BenchmarkConfig(name="decode", launcher=InlineConfig(), scenario=scenario, backend=backend)
found = Benchmark.launch(config).to_dict()
prefill, decode = (found[stage]["throughput"]["value"] for stage in ("prefill", "decode"))
print(json.dumps([64 * prefill, decode]))  # it counts rows of a prompt, and tokens of a text
"""
_OURS = """
import json, sys, time
from contextlib import nullcontext
from pathlib import Path
from statistics import mean
from runtime_matrix.experiments.evaluation.decoding import decode_batch, random_prompts
from runtime_matrix.experiments.measurement.clocks import StepTimer
from runtime_matrix.runtimes.base import Hardware, ModelSource
from runtime_matrix.runtimes.engines.eager import Eager
runtime = Eager()
hardware = Hardware("cpu", int(sys.argv[2]))
traits = runtime.load(ModelSource("bundled", Path(sys.argv[1])), hardware, lambda name: nullcontext())
prompts, timers = random_prompts(1, 64, traits.vocabulary, 0), []
for _ in range(12):
    timer = StepTimer(time.perf_counter, runtime.synchronize)
    timer.start()
    decode_batch(runtime, traits, prompts, 32, timer.tick)
    timers.append(timer)
first_s, others_s = mean(one.ttft_s for one in timers[2:]), mean(sum(one.tpot_s) for one in timers[2:])
print(json.dumps([64 / first_s, 31 / others_s]))
"""


def main() -> int:
    """Print the figures of both sides as JSON."""
    arguments = _parser().parse_args()
    contenders = {"optimum-benchmark": (arguments.peer, _THEIRS), "ours": (sys.executable, _OURS)}
    timed = Timed(prefill_tokens_per_s={}, tokens_per_s={}, cpu_s={})
    for turn in range(arguments.turns):
        names = list(contenders)
        for name in names if turn % 2 == 0 else reversed(names):
            python, script = contenders[name]
            (prefill, decode), cpu_s = _run([python, "-c", script, str(MODEL_DIR), str(arguments.threads)])
            timed.prefill_tokens_per_s.setdefault(name, []).append(prefill)
            timed.tokens_per_s.setdefault(name, []).append(decode)
            timed.cpu_s.setdefault(name, []).append(cpu_s)
    print(json.dumps(vars(timed)))
    return 0


def _run(command: Sequence[str]) -> tuple[list[float], float]:
    """Return the JSON in the last line of the output, and the CPU seconds of the process with loading."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if completed.returncode != 0:
        raise SystemExit(completed.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(completed.stdout.strip().splitlines()[-1]), cpu_s


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, metavar="PYTHON", help="an interpreter with optimum-benchmark")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main())
