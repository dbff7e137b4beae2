"""The overhead of our layer: decoding through the core against a bare loop over the same library, in one process.

`python -m experiments.validation.peers.bare [rounds=40] [runtimes=eager,compile,onnxruntime] [OVERRIDES]`, with the
overrides of `python -m experiments.run`, such as the model. In turns, CPU time of one thread per token; the ratio is
ours / bare, as median and quartiles over rounds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.cells.overrides import own_words
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.evaluation.decoding import decode_batch, random_prompts
from runtime_matrix.experiments.execution.worker.loading import load, make_stepping
from runtime_matrix.runtimes.base import LoadRequest
from runtime_matrix.runtimes.weights.full import load_module

_PROMPT_TOKENS, _NEW_TOKENS = 64, 32
_OWN: dict[str, str | None] = {"rounds": "40", "runtimes": "eager,compile,onnxruntime"}
_Loop = Callable[[Sequence[int], int], list[int]]


def main() -> int:
    """Print time per token and overhead for each runtime. RuntimeError if the bare loop gives other tokens."""
    own, hydra_words = own_words(sys.argv[1:], _OWN)
    rounds = int(str(own["rounds"]))
    for name in str(own["runtimes"]).split(","):
        cell = plan(compose([*hydra_words.overrides, f"runtime={name}", "hw=cpu", "hw.threads=1"]), "")
        ours, bare, vocabulary = _contenders(cell, name)
        ratios, milliseconds = _race(ours, bare, vocabulary, rounds)
        low, _, high = quantiles(ratios, n=4)
        print(f"{name}: {median(milliseconds):.3f} ms per token, {median(ratios):.3f} of bare [{low:.3f}, {high:.3f}]")
    return 0


def _contenders(cell: Any, name: str) -> tuple[_Loop, _Loop, int]:
    runtime = make_stepping(cell.config.runtime, "run bare")
    traits = load(cell, runtime, cell.config.runtime, cell.hardware("cpu"), lambda phase: nullcontext())

    def ours(prompt: Sequence[int], new: int) -> list[int]:
        return decode_batch(runtime, traits, [prompt], new)[0]

    if name == "onnxruntime":
        graph = max(cell.artifacts.glob("onnx/*/model.onnx"), key=lambda path: path.parent.stat().st_mtime)
        return ours, partial(_onnx_loop, _session(graph)), traits.vocabulary

    module = load_module(LoadRequest(cell.source, "float32", "sdpa", cell.hardware("cpu")))
    return ours, _compiled_loop(module) if name == "compile" else partial(_eager_loop, module), traits.vocabulary


def _race(ours: _Loop, bare: _Loop, vocabulary: int, rounds: int) -> tuple[list[float], list[float]]:
    """Return ours / bare and our milliseconds per token for each round. RuntimeError if the tokens differ."""
    prompt = random_prompts(1, _PROMPT_TOKENS, vocabulary, seed=0)[0]
    for _ in range(3):
        if ours(prompt, _NEW_TOKENS) != bare(prompt, _NEW_TOKENS):
            raise RuntimeError("the bare loop gives other tokens")
    seconds_by_loop: dict[_Loop, list[float]] = {ours: [], bare: []}
    for number in range(rounds):
        for loop in (ours, bare) if number % 2 else (bare, ours):
            start = time.process_time()
            loop(prompt, 1)
            prefill_end = time.process_time()
            loop(prompt, _NEW_TOKENS)
            decode = time.process_time() - prefill_end - (prefill_end - start)  # without the prompt
            seconds_by_loop[loop].append(decode / (_NEW_TOKENS - 1))
    ratios = [own_s / bare_s for own_s, bare_s in zip(seconds_by_loop[ours], seconds_by_loop[bare], strict=True)]
    return ratios, [1000 * seconds for seconds in seconds_by_loop[ours]]


def _eager_loop(module: Any, prompt: Sequence[int], new: int) -> list[int]:
    import torch
    from transformers import DynamicCache

    with torch.inference_mode():
        cache, ids, tokens = DynamicCache(config=module.config), torch.tensor([prompt]), []
        for _ in range(new):
            logits = module(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            ids = logits[:, -1].argmax(-1, keepdim=True)
            tokens.append(int(ids))
    return tokens


def _compiled_loop(module: Any) -> _Loop:
    import torch
    from transformers import StaticCache

    cache = StaticCache(config=module.config, max_cache_len=128)

    def forward(ids: Any, position: Any, cache: Any) -> Any:
        return module(ids, position_ids=position, past_key_values=cache, use_cache=True, logits_to_keep=1).logits

    step = torch.compile(forward, fullgraph=True, dynamic=False)

    def loop(prompt: Sequence[int], new: int) -> list[int]:
        tokens: list[int] = []
        with torch.inference_mode():
            cache.reset()
            ids, position = torch.tensor([prompt]), torch.arange(len(prompt))[None]
            for count in range(new):
                logits = (step if count else forward)(ids, position, cache)
                ids = logits[:, -1].argmax(-1, keepdim=True)
                tokens.append(int(ids))
                position = torch.tensor([[len(prompt) + count]])
        return tokens

    return loop


def _session(graph: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _onnx_loop(session: Any, prompt: Sequence[int], new: int) -> list[int]:
    import numpy as np

    inputs = session.get_inputs()
    names = [value.name for value in inputs if value.name.startswith(("key.", "value."))]
    _, heads, _, width = next(value.shape for value in inputs if value.name == names[0])
    cache = [np.zeros((1, heads, 0, width), dtype=np.float32) for _ in names]
    ids, past, tokens = np.array([prompt], dtype=np.int64), 0, []
    for _ in range(new):
        count = ids.shape[1]
        mask = np.concatenate([np.ones((count, past), dtype=bool), np.tri(count, dtype=bool)], axis=1)[None, None]
        feeds = {
            "ids": ids,
            "positions": past + np.arange(count)[None],
            "mask": mask,
            "at": np.array([[count - 1]]),
            **dict(zip(names, cache, strict=True)),
        }
        logits, *cache = session.run(["logits", *(f"new_{name}" for name in names)], feeds)
        past += count
        ids = logits[:, -1].argmax(-1, keepdims=True)
        tokens.append(int(ids[0, 0]))
    return tokens


if __name__ == "__main__":
    sys.exit(main())
