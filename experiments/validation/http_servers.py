"""Our own server in a child process, and clients of it, for measurements over loopback."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.execution.worker.loading import load, make_runtime
from runtime_matrix.runtimes.requests import RequestRuntime

_END_S = 10.0
_NOT_SERVED = ("benchmark", "experiment", "comparison", "agreement", "results_dir", "resume")


def served_words(command: str) -> list[str]:
    """Return the overrides of a cell's command that its server shares: runtime, model and hardware."""
    words = [word for word in shlex.split(command) if "=" in word and not word.startswith("-")]
    return [word for word in words if word.lstrip("+~").partition("=")[0].partition(".")[0] not in _NOT_SERVED]


@contextmanager
def server(words: Sequence[str], log: Path) -> Iterator[str]:
    """Start `experiments.serve` with these words on a free port, yield its address, and end its process group."""
    command = [sys.executable, "-m", "runtime_matrix.experiments.serve", *words, "serve.port=0"]
    with log.open("ab") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server did not start: see {log}")
        yield str(json.loads(line)["url"])
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, number)
                try:
                    process.wait(_END_S)
                except subprocess.TimeoutExpired:
                    continue


@contextmanager
def client(url: str, words: Sequence[str], **options: Any) -> Iterator[RequestRuntime]:
    """Yield a loaded `runtime=server` for the server at this address; `options` are those of the preset's engine."""
    own = [word for word in words if not word.startswith(("runtime=", "runtime.", "runtime/"))]
    given = [f"runtime.engine.{name}={json.dumps(value)}" for name, value in options.items()]
    cell = plan(compose([*own, "runtime=server", f"runtime.engine.url={url}", *given]), "")
    with make_runtime(cell.config.runtime) as engine:
        assert isinstance(engine, RequestRuntime)
        load(cell, engine, cell.config.runtime, cell.hardware("cpu"), lambda name: nullcontext())
        yield engine
