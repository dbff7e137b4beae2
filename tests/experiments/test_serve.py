"""`python -m experiments.serve` as a user starts and stops it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime_matrix.experiments.serve import main
from tests.conftest import ROOT
from tests.in_process import call

READY_S, END_S = 90.0, 5.0
KEY = "A_KEY_FOR_TESTS"


@contextmanager
def started(words: Sequence[str], folder: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """Yield the process and what it says when it is ready; its process group is ended."""
    command = [sys.executable, "-m", "experiments.serve", "serve.port=0", f"serve.key_variable={KEY}", *words]
    with (
        open(folder / "errors", "w", encoding="utf-8") as errors,
        subprocess.Popen(
            [*command, f"results_dir={folder}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | environment,
            start_new_session=True,
        ) as process,
    ):
        killer = threading.Timer(READY_S, process.kill)
        killer.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (folder / "errors").read_text()
            yield process, json.loads(line)
        finally:
            killer.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def stream(url: str, tokens: int, lines: list[str]) -> threading.Thread:
    """Start a stream; its lines are added as they arrive."""

    def receive() -> None:
        body = {"prompt": [10], "max_tokens": tokens, "temperature": 0, "stream": True}
        with (
            suppress(httpx.RemoteProtocolError),  # the server has ended
            httpx.Client(timeout=30, trust_env=False) as client,
            client.stream("POST", f"{url}/v1/completions", json=body) as reply,
        ):
            lines.extend(line for line in reply.iter_lines() if line)

    thread = threading.Thread(target=receive)
    thread.start()
    return thread


def test_sigterm_lets_short_texts_end_and_leaves_no_process(tmp_path: Path) -> None:
    words = ("runtime=fake", "model=random", "runtime.engine.token_s=0.05", "serve.grace_s=1.5")
    with started(words, tmp_path) as (process, ready):
        assert (ready["event"], ready["pid"], ready["runtime"]) == ("ready", process.pid, "fake")
        assert ready["url"].startswith("http://127.0.0.1:")
        short: list[str] = []
        long: list[str] = []
        threads = [stream(ready["url"], 20, short), stream(ready["url"], 900, long)]
        deadline = time.monotonic() + 20
        while "runtime_matrix_server_rows_running 2" not in httpx.get(f"{ready['url']}/metrics", trust_env=False).text:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_S) == 0
        for thread in threads:
            thread.join(5)
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    assert len(short) == 21
    assert json.loads(long[-2].removeprefix("data: "))["error"]["message"] == "the server is stopping"
    assert short[-1] == long[-1] == "data: [DONE]"
    errors = (tmp_path / "errors").read_text()
    assert "Traceback" not in errors
    assert "warning" not in errors


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    words = ("runtime=fake", "model=random", "runtime.engine.token_s=0.05", "serve.grace_s=60", "serve.host=0.0.0.0")
    with started(words, tmp_path) as (process, ready):
        lines: list[str] = []
        url = ready["url"].replace("0.0.0.0", "127.0.0.1")
        thread = stream(url, 900, lines)
        while "rows_running 1" not in httpx.get(f"{url}/metrics", trust_env=False).text:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_S) == 0
        thread.join(5)
    assert f"lets other machines in without a key: set {KEY}" in (tmp_path / "errors").read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["runtime=server", "runtime.engine.url=http://127.0.0.1:9"], 3, "takes whole requests and gives no logits"),
        (["runtime=egaer"], 2, "runtime=egaer is not an option; did you mean 'eager'?"),
        (["serve.ports=1"], 2, "ports is not a known key; did you mean 'port'?"),
        (["-m", "runtime=eager,fake"], 2, "one runtime is served at a time"),
        (["serve.port=1", "serve.host=192.0.2.1"], 2, "cannot listen at serve.host=192.0.2.1"),
    ],
)
def test_a_mistake_is_named_in_one_line(words: list[str], code: int, message: str, tmp_path: Path) -> None:
    done = call(main, [*words, f"results_dir={tmp_path}"])
    assert done.returncode == code
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_help_has_every_option() -> None:
    done = call(main, ["--help"])
    assert done.returncode == 0
    assert "measuring instrument" in done.stdout
    for name in ("lock", "max_batch", "max_requests", "key_variable"):
        assert f"\n{name}: " in done.stdout
