"""The process of llama.cpp's server: xllamacpp's, with the options given as JSON. It serves until it is ended."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any


def main() -> None:
    """Serve: `python -m runtime_matrix.runtimes.engines.server.llama_process '{"model": …}'`."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    import xllamacpp as llama

    parameters = llama.CommonParams()
    parameters.model.path = options["model"]
    parameters.model_alias = {options["alias"]}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = options["port"]
    parameters.n_parallel = options["slots"]
    parameters.n_ctx = options["slots"] * options["slot_tokens"]  # llama.cpp divides it among the slots
    parameters.cont_batching = True
    parameters.cache_prompt = options["prefix_cache"]
    parameters.cache_ram_mib = 0  # prompts are cached in the slots alone
    parameters.endpoint_metrics = True
    parameters.n_gpu_layers = 0
    for threads in (parameters.cpuparams, parameters.cpuparams_batch):
        threads.n_threads = options["threads"]
    parameters.n_threads_http = max(2, options["slots"])
    kind = getattr(llama.ggml_type, f"GGML_TYPE_{options['kv_type']}")
    parameters.cache_type_k = parameters.cache_type_v = kind
    flash = "ENABLED" if options["flash_attention"] else "DISABLED"
    parameters.flash_attn_type = getattr(llama.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{flash}")
    server = llama.Server(parameters)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # xllamacpp has no other end
    print(server.listening_address, flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
