"""vLLM's own server, started here from an environment of its own: vLLM pins other versions than this project."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from runtime_matrix.runtimes import artifacts
from runtime_matrix.runtimes.adapter_files import read_adapter
from runtime_matrix.runtimes.base import Adapter, Hardware, LoadRequest, ModelSource, Phase, Unsupported
from runtime_matrix.runtimes.engines.server.started import StartedServer, reserved_tokens
from runtime_matrix.runtimes.engines.server.tokens import stated_length
from runtime_matrix.runtimes.weights import full

_START_S = 900.0  # compiling kernels takes minutes
_CPU_CACHE_GIB = 1  # of keys and values
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that its kernels are made for
_MODULE = "vllm.entrypoints.openai.api_server"  # `vllm serve` does not start in the CPU's wheel


class Vllm(StartedServer):
    """vLLM in a child process.

    `python` is the interpreter that has vLLM; None: this one. The other options are vLLM's, under its names; None
    leaves its default, but `max_model_len` follows `model.max_tokens`. An adapter is held beside the weights, under a
    name of its own.
    """

    distributions = ("httpx",)

    def __init__(
        self,
        dtype: str = "float32",
        python: str | None = None,
        tensor_parallel_size: int | None = None,
        gpu_memory_utilization: float | None = None,
        max_num_batched_tokens: int | None = None,
        max_num_seqs: int | None = None,
        max_model_len: int | None = None,
        enable_chunked_prefill: bool | None = None,
        enable_prefix_caching: bool | None = None,
        quantization: str | None = None,
        kv_cache_dtype: str | None = None,
        enforce_eager: bool | None = None,
        max_loras: int | None = None,
        max_lora_rank: int | None = None,
        **client: Any,
    ):
        super().__init__(dtype, _START_S, client)
        self._python = python or sys.executable
        self._vllm_options: Mapping[str, str | float | None] = {
            "tensor-parallel-size": tensor_parallel_size,
            "gpu-memory-utilization": gpu_memory_utilization,
            "max-num-batched-tokens": max_num_batched_tokens,
            "max-num-seqs": max_num_seqs,
            "max-model-len": max_model_len,
            "enable-chunked-prefill": enable_chunked_prefill,
            "enable-prefix-caching": enable_prefix_caching,
            "quantization": quantization,
            "kv-cache-dtype": kv_cache_dtype,
            "enforce-eager": enforce_eager,
            "max-loras": max_loras,
            "max-lora-rank": max_lora_rank,
        }
        self._adapter: Adapter | None = None

    @override
    def check(self, hw: Hardware) -> None:
        self.check_options()
        found = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
        try:
            code = subprocess.run([self._python, "-c", found], capture_output=True, check=False).returncode
        except OSError as error:
            raise Unsupported(f"runtime.engine.python={self._python} does not start: {error.strerror}") from None
        if code != 0:
            raise Unsupported(
                f"{self._python} has no vllm: run `make vllm`, and set runtime.engine.python=.vllm/bin/python"
            )

    @override
    def prepare(self, model: ModelSource, hw: Hardware, phase: Phase) -> Path:
        if self._vllm_options["max-model-len"] is None and model.max_tokens is not None:
            length = reserved_tokens(model.max_tokens, stated_length(model))
            self._vllm_options = {**self._vllm_options, "max-model-len": length}
        model, self._adapter = model.base, model.adapter
        if self._adapter is not None and self._scoring_concurrency is None:
            # With LoRA, vLLM 0.32 ends when it computes log-probabilities of prompts for several requests in one step.
            self._scoring_concurrency = 1
        if model.folder is not None:
            return model.folder

        def build(folder: Path) -> None:
            full.Full().load(LoadRequest(model, self._dtype, "sdpa", hw)).save_pretrained(folder)

        with phase("export"):
            return artifacts.entry(hw.artifacts, "checkpoint", {"model": model.digest, "dtype": self._dtype}, build)

    @override
    def command(self, path: Path, name: str, port: int, hw: Hardware) -> tuple[Sequence[str], Mapping[str, str]]:
        words = [self._python, "-m", _MODULE, "--model", str(path), "--served-model-name", name]
        words += ["--host", "127.0.0.1", "--port", str(port), "--dtype", self._dtype]
        for option, value in self._vllm_options.items():
            if isinstance(value, bool):
                words.append(f"--{option}" if value else f"--no-{option}")
            elif value is not None:
                words += [f"--{option}", str(value)]
        words += self._adapter_words(name)
        if not (path / "tokenizer.json").exists():
            words.append("--skip-tokenizer-init")
        variables = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(hw.threads)}
        if hw.device == "cpu":  # cores are chosen by whoever times the server
            variables |= {"VLLM_CPU_KVCACHE_SPACE": str(_CPU_CACHE_GIB), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        return words, variables

    @override
    def served_name(self, alias: str, model: ModelSource) -> str:
        return alias if model.adapter is None else f"{alias}-{model.adapter.name}"

    def _adapter_words(self, alias: str) -> list[str]:
        """Return the words that give the server the adapter, with the least rank that holds it."""
        if self._adapter is None:
            return []
        words = ["--enable-lora", "--lora-modules", f"{alias}-{self._adapter.name}={self._adapter.folder.resolve()}"]
        if self._vllm_options["max-lora-rank"] is None:
            rank = read_adapter(self._adapter.folder).rank
            words += ["--max-lora-rank", str(next((least for least in _RANKS if least >= rank), rank))]
        return words
