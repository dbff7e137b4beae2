"""One llama.cpp server, loaded in turns by our benchmark `serving`, by vLLM's and by GuideLLM; its counters decide.

`python -m experiments.validation.peers.serving --vllm PYTHON --guidellm PYTHON`, interpreters that have them; without
one, that tool is left out. Each turn is a closed loop of the same size: requests in flight, prompt and new tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from statistics import median

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.evaluation.prompts import draw_prompts
from runtime_matrix.experiments.execution.worker.loading import load, make_runtime
from runtime_matrix.experiments.traffic.driver import ClosedLoop, drive
from runtime_matrix.experiments.traffic.figures import samples
from runtime_matrix.experiments.validation.peers.results import ServedBy
from runtime_matrix.experiments.validation.peers.workloads import MODEL_DIR
from runtime_matrix.runtimes.requests import GenerateRequest, RequestRuntime

_NAME = "runtime-matrix"  # of the served model
_TIMEOUT_S = 120.0
_VLLM = """
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.benchmarks.serve import add_cli_args, main
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
_ARBITER = {"prompt_tokens": "llamacpp:prompt_tokens_total", "new_tokens": "llamacpp:tokens_predicted_total"}
_SECONDS = "llamacpp:tokens_predicted_seconds_total"
Turn = Callable[[int], JsonObject]  # from the number of the turn to what the tool reports


def main() -> int:
    """Print the figures of all tools as JSON."""
    arguments = _parser().parse_args()
    slots = [f"runtime.engine.{name}={arguments.concurrency}" for name in ("slots", "concurrency")]
    cell = plan(compose(["runtime=llama_server", *slots, f"hw.threads={arguments.threads}"]), "make peers")
    with make_runtime(cell.config.runtime) as server:
        assert isinstance(server, RequestRuntime)
        traits = load(cell, server, cell.config.runtime, cell.hardware("cpu"), lambda name: nullcontext())
        turns = _turns(arguments, server, traits.vocabulary)
        for turn in turns.values():
            turn(-1)  # warms up the server and the files of the tool
        reports: dict[str, list[JsonObject]] = {name: [] for name in turns}
        for number in range(arguments.turns):
            names = list(turns)
            for name in names if number % 2 == 0 else reversed(names):
                before = server.metrics()
                report = turns[name](number)
                reports[name].append({**report, **_counted(before, server.metrics())})
    print(json.dumps(vars(ServedBy(concurrency=arguments.concurrency, requests=arguments.requests, reports=reports))))
    return 0


def _counted(before: Mapping[str, float], after: Mapping[str, float]) -> JsonObject:
    """Return what the server counted in a turn: tokens, and its own seconds per new token."""
    counts = {f"server_{name}": round(after[key] - before[key]) for name, key in _ARBITER.items()}
    seconds = after[_SECONDS] - before[_SECONDS]
    new_tokens = counts["server_new_tokens"]
    return {**counts, "server_itl_ms": 1e3 * seconds / new_tokens if new_tokens else None}


def _turns(arguments: argparse.Namespace, server: RequestRuntime, vocabulary: int) -> dict[str, Turn]:
    url = str(server.url)  # type: ignore[attr-defined]  # of a server that was started
    turns: dict[str, Turn] = {"ours": lambda number: _ours(arguments, server, vocabulary, number)}
    if arguments.vllm:
        turns["vllm bench serve"] = lambda number: _vllm(arguments, url, number)
    if arguments.guidellm:
        turns["guidellm"] = lambda number: _guidellm(arguments, url, number)
    return turns


def _ours(arguments: argparse.Namespace, server: RequestRuntime, vocabulary: int, number: int) -> JsonObject:
    requests = [
        GenerateRequest(
            tuple(draw_prompts(f"peers {number} {place}", 1, [arguments.prompt_tokens], vocabulary)[0]),
            arguments.new_tokens,
            ignore_eos=True,
        )
        for place in range(arguments.requests)
    ]
    driven = drive(server.start, requests, ClosedLoop(arguments.concurrency), _TIMEOUT_S)
    times = samples(driven)
    tokens = sum(len(served.ids) for served in driven.requests if served.is_complete)
    return {
        "completed": sum(served.is_complete for served in driven.requests),
        "ttft_ms_p50": 1e3 * median(times["ttft_s"]),
        "tpot_ms_p50": 1e3 * median(times["tpot_s"]),
        "tokens_per_s": tokens / driven.duration_s,
        "new_tokens": tokens,
    }


def _vllm(arguments: argparse.Namespace, url: str, number: int) -> JsonObject:
    with tempfile.TemporaryDirectory() as folder:
        words = [
            *(arguments.vllm, "-c", _VLLM, "--backend", "openai", "--base-url", url, "--endpoint", "/v1/completions"),
            *("--model", _NAME, "--tokenizer", str(MODEL_DIR), "--dataset-name", "random", "--ignore-eos"),
            *("--random-input-len", str(arguments.prompt_tokens), "--random-output-len", str(arguments.new_tokens)),
            *("--num-prompts", str(arguments.requests), "--max-concurrency", str(arguments.concurrency)),
            *("--seed", str(number + 1), "--save-result", "--result-dir", folder, "--result-filename", "result.json"),
        ]
        _run(words, {"VLLM_NO_USAGE_STATS": "1"})
        result = json.loads(Path(folder, "result.json").read_text(encoding="utf-8"))
    return {
        "completed": result["completed"],
        "ttft_ms_p50": result["median_ttft_ms"],
        "tpot_ms_p50": result["median_tpot_ms"],
        "tokens_per_s": result["output_throughput"],
        "new_tokens": result["total_output_tokens"],
    }


def _guidellm(arguments: argparse.Namespace, url: str, number: int) -> JsonObject:
    with tempfile.TemporaryDirectory() as folder:
        sizes = f"prompt_tokens={arguments.prompt_tokens},output_tokens={arguments.new_tokens}"
        output = Path(folder, "result.json")
        words = [
            *(arguments.guidellm, "-m", "guidellm", "run", "--disable-console"),
            *("--backend", f"kind=openai_http,target={url},model={_NAME},request_format=/v1/completions"),
            *("--tokenizer", f"kind=huggingface_auto,model={MODEL_DIR}", "--data", f"kind=synthetic_text,{sizes}"),
            *("--profile", f"kind=concurrent,streams={arguments.concurrency}"),
            *("--constraint", f"kind=max_requests,count={arguments.requests}"),
            *("--seed", f"kind=static,value={number + 1}", "--output", f"kind=json,path={output}"),
        ]
        _run(words, {"GUIDELLM__MAX_WORKER_PROCESSES": "1", "HF_HUB_OFFLINE": "1"})
        (benchmark,) = json.loads(output.read_text(encoding="utf-8"))["benchmarks"]
    metrics = benchmark["metrics"]
    return {
        "completed": metrics["request_totals"]["successful"],
        "ttft_ms_p50": metrics["time_to_first_token_ms"]["successful"]["median"],
        "tpot_ms_p50": metrics["inter_token_latency_ms"]["successful"]["median"],
        "tokens_per_s": metrics["output_tokens_per_second"]["successful"]["mean"],
        "new_tokens": round(metrics["output_token_count"]["successful"]["total_sum"]),
    }


def _run(words: list[str], variables: Mapping[str, str]) -> None:
    done = subprocess.run(words, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit((done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", metavar="PYTHON", help="an interpreter with vLLM")
    parser.add_argument("--guidellm", metavar="PYTHON", help="an interpreter with GuideLLM")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=32)
    return parser


if __name__ == "__main__":
    sys.exit(main())
