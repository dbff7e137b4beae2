"""A server that is started here as a child process: own process group, free port, health check, log, clean end."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime_matrix.runtimes.base import Unsupported

_POLL_S = 0.05
_ASK_S = 1.0
_GRACE_S = 5.0  # between SIGTERM and SIGKILL
_LOG_LINES = 3
# Starts the words that follow, which are ended with this process even if it is killed: nobody else would end them.
_TIED = (
    "import ctypes, os, signal, sys\n"
    "if sys.platform == 'linux': ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, kept by exec\n"
    "if os.getppid() != int(sys.argv[1]): sys.exit('the parent has ended')\n"
    "os.execvp(sys.argv[2], sys.argv[2:])\n"
)


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def is_taken(port: int) -> bool:
    """Return whether a port of the loopback interface is taken now."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection that was closed does not count
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


class ServerProcess:
    """A child process that answers `/health` with 200 once it is ready.

    `close` ends it and its own children. It is ended too if the thread that started it ends.
    """

    def __init__(self, command: Sequence[str], port: int, log_folder: Path | None, environment: Mapping[str, str]):
        self.url, self._port = f"http://127.0.0.1:{port}", port
        folder = log_folder or Path(tempfile.gettempdir())
        folder.mkdir(parents=True, exist_ok=True)
        file, name = tempfile.mkstemp(prefix="server-", suffix=".log", dir=folder)
        self.log = Path(name)
        with os.fdopen(file, "wb") as log:
            self._process = subprocess.Popen(  # an argument list, without a shell
                [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **environment},
            )

    @property
    def pid(self) -> int:
        """Return the process id of the server."""
        return self._process.pid

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait for `/health`; Unsupported with the log's last lines if the server ends, or is not ready in time."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise Unsupported(f"the server ended with code {self._process.returncode}: {self._last_lines()}")
            if self._is_healthy():
                return
            time.sleep(_POLL_S)
        raise Unsupported(f"the server was not ready within {timeout_s:g} s: {self._last_lines()}")

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ASK_S)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):  # not yet, or another program on the port
            return False
        finally:
            connection.close()

    def close(self) -> None:
        """End the process group: SIGTERM, then SIGKILL. Safe to call twice."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, sign)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_GRACE_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # children that outlived the server

    def _last_lines(self) -> str:
        """Return the end of the log in one line."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if "error" in line.lower()] or lines
        return f"{' | '.join(line.strip() for line in errors[-_LOG_LINES:])[:400] or 'its log is empty'} ({self.log})"
