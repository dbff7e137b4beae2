"""A server in a child process: ready when it says so, its log kept, and ended in every case."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from runtime_matrix.runtimes.base import Unsupported
from runtime_matrix.runtimes.engines.server import child
from runtime_matrix.runtimes.engines.server.child import ServerProcess, free_port
from tests.conftest import ROOT

SERVE = """
import http.server, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
print("serving", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
WITH_CHILD = "import subprocess\nprint(subprocess.Popen(['sleep', '100']).pid, flush=True)\n"
_LONG_S = 20.0


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def started(stack: ExitStack, folder: Path, script: str) -> ServerProcess:
    port = free_port()
    process = ServerProcess([sys.executable, "-S", "-c", script, str(port)], port, folder, {"GIVEN": "yes"})
    stack.callback(process.close)
    return process


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def ends(pid: int) -> bool:
    end = time.monotonic() + _LONG_S
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not is_running(pid)


@pytest.mark.parametrize("before", ["", STUBBORN, WITH_CHILD], ids=["plain", "stubborn", "with a child"])
def test_close_ends_the_server_and_its_children(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    monkeypatch.setattr(child, "_GRACE_S", 0.1)
    process = started(stack, tmp_path / "logs", before + SERVE)
    process.wait_until_ready(_LONG_S)
    assert process.log.parent == tmp_path / "logs"
    lines = process.log.read_text().splitlines()
    pids = [process.pid, *(int(line) for line in lines if line.isdigit())]
    assert len(pids) == (2 if before == WITH_CHILD else 1)
    assert all(map(is_running, pids))
    process.close()
    assert all(map(ends, pids))
    assert "serving" in process.log.read_text()
    process.close()


def test_a_server_that_ends_says_why(stack: ExitStack, tmp_path: Path) -> None:
    process = started(stack, tmp_path, "import sys\nprint('loading')\nsys.exit('Error: no such\tmodel')")
    with pytest.raises(Unsupported) as raised:
        process.wait_until_ready(_LONG_S)
    assert str(raised.value) == f"the server ended with code 1: Error: no such\tmodel ({process.log})"


def test_a_server_that_says_nothing_is_not_waited_for(stack: ExitStack, tmp_path: Path) -> None:
    process = started(stack, tmp_path, "import time\ntime.sleep(100)")
    with pytest.raises(Unsupported) as raised:
        process.wait_until_ready(0.1)
    assert str(raised.value) == f"the server was not ready within 0.1 s: its log is empty ({process.log})"


def test_another_program_on_the_port_is_not_ready(stack: ExitStack, tmp_path: Path) -> None:
    script = (
        "import socket, sys\nserver = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "while True:\n    server.accept()[0].sendall(b'SSH-2.0\\r\\n')"
    )
    process = started(stack, tmp_path, script)
    with pytest.raises(Unsupported, match="not ready within"):
        process.wait_until_ready(0.3)


def test_the_environment_is_added_and_no_proxy_is_asked(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    process = started(stack, tmp_path, f"import os\nprint(os.environ['GIVEN'], flush=True)\n{SERVE}")
    process.wait_until_ready(_LONG_S)
    assert process.log.read_text().startswith("yes\n")


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_the_server_ends_with_its_parent(tmp_path: Path, sign: signal.Signals) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from runtime_matrix.runtimes.engines.server.child import ServerProcess, free_port\n"
        "port = free_port()\n"
        f"process = ServerProcess([sys.executable, '-S', '-c', {SERVE!r}, str(port)], port, Path(sys.argv[1]), {{}})\n"
        "process.wait_until_ready(20)\nprint(process.pid, flush=True)\ntime.sleep(100)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    assert is_running(pid)
    os.kill(parent.pid, sign)
    parent.wait(_LONG_S)
    assert ends(pid)
