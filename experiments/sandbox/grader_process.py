"""The process of a grader, or of an interpreter's runner, as the pool sees it: jobs in, replies out, one per line."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import time

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.sandbox.messages import Job, Reply
from runtime_matrix.experiments.sandbox.packages import ONE_THREAD


class GraderProcess:
    """A running grader; UserError if it does not start. `scratch` is its folder, which `close` removes."""

    def __init__(self, command: list[str], scratch: str):
        self._scratch = scratch
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": scratch, "PYTHONHASHSEED": "0"}
        environment |= dict.fromkeys(ONE_THREAD, "1")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        self._rest = b""
        greeting = self._line(30.0)
        if greeting is None:
            trouble = self._trouble()
            self.close()
            raise UserError(f"the sandbox did not start: {trouble}")
        self.level: list[str] = json.loads(greeting)["level"]

    def grade(self, job: Job, patience_s: float) -> Reply | None:
        """Return the verdict; None if the grader has ended or exceeded `patience_s`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return None
        line = self._line(patience_s)
        return None if line is None else json.loads(line)

    def close(self) -> None:
        """Kill the grader with its children and remove its folder."""
        self._process.kill()  # its children die with it
        self._process.communicate()
        with contextlib.suppress(OSError):
            shutil.rmtree(self._scratch)

    def _line(self, patience_s: float) -> bytes | None:
        assert self._process.stdout is not None
        deadline = time.monotonic() + patience_s
        file = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0 or not select.select([file], [], [], remaining_s)[0]:
                return None
            part = os.read(file, 1 << 16)
            if not part:
                return None
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _trouble(self) -> str:
        self._process.kill()
        lines = self._process.communicate()[1].decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it ended without a message"
