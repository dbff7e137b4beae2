"""Serve a runtime behind the OpenAI API, to compare it in this process and over HTTP. It is a measuring instrument.

  python -m experiments.serve                                        eager, the bundled model, at 127.0.0.1:8000
  python -m experiments.serve runtime=onnxruntime model=local model.path=DIR serve.port=8001
  python -m experiments.serve serve.lock=true                        one request at a time, without batches

A line of JSON on the standard output says when requests are taken. SIGTERM ends it: running texts may end within
serve.grace_s. For users in production there are servers such as vLLM and llama.cpp; this one lets a runtime's answers
and times be compared with those in process, through clients that know only the API.

Routes: /v1/completions, /v1/chat/completions, /v1/models, /tokenize, /detokenize, /loglikelihood, /health, /metrics.
It takes the overrides of `python -m experiments.run` and these, as serve.KEY=VALUE:

"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.cli.command import run_command
from runtime_matrix.experiments.config.arguments import read_arguments
from runtime_matrix.experiments.config.compose import CONF, compose, show
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import recorded_command
from runtime_matrix.experiments.serving.options import PREFIX, read_options
from runtime_matrix.runtimes.base import Unsupported
from runtime_matrix.runtimes.weights.packages import require

_PACKAGES = ("starlette", "uvicorn")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal. Return 0 then, 3 if the runtime is unsupported here, 2 for a user's mistake."""
    return run_command(argv, f"{__doc__}{_options()}", _serve, "no request was being answered")


def _options() -> str:
    return (CONF / "serve.yaml").read_text(encoding="utf-8").partition("\n")[2].rstrip()


def _serve(words: Sequence[str]) -> int:
    given = read_arguments(words)
    if given.is_sweep:
        raise UserError("one runtime is served at a time: leave -m out")
    own = [word for word in given.overrides if word.startswith(PREFIX)]
    config = read_options(own)
    resolved = compose([word for word in given.overrides if word not in own])
    if given.shown is not None:
        show([resolved], is_resolved=True)
        return 0
    cell = plan(resolved, recorded_command("serve", words))
    try:
        for package in _PACKAGES:
            require(package, "serve")
        # They import torch and starlette, which --help and mistakes do not need.
        from runtime_matrix.experiments.serving.loading import opened
        from runtime_matrix.experiments.serving.running import bind, run

        listener = bind(config)
        if not config.is_local and config.api_key is None:
            print(
                f"warning: serve.host={config.host} lets other machines in without a key: set {config.key_variable}",
                file=sys.stderr,
            )
        with listener, opened(cell, config) as served:
            run(served, config, listener, {"runtime": cell.config.runtime.title, "dtype": served.traits.dtype})
    except Unsupported as error:
        print(f"unsupported: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # nothing is left to do, and the end of an interpreter with torch takes seconds
