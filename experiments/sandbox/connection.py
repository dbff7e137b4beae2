"""The grader's connection to a program, which is not trusted: its answers are data, or it has ended.

Runs in the clean interpreter: standard library only.
"""

from __future__ import annotations

import builtins
import json
import select
import socket
import time
from typing import Any

import values

MOST_BYTES = 16 << 20  # limit of an answer, and of all outputs of a program together


class HasEnded(BaseException):
    """The program has ended or broken the protocol. Not an Exception, so that tests do not catch it."""

    def __init__(self, status: str, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


class Connection:
    """The grader's connection to a program."""

    def __init__(self, wire: socket.socket, deadline: float):
        self._wire, self._deadline, self._rest = wire, deadline, bytearray()
        self.ended: HasEnded | None = None  # set even if a test catches the exception

    def ask(self, request: dict[str, str]) -> Any:
        """Return the program's answer; raises its exception, or HasEnded."""
        self._send(request)
        return self.answer()

    def call(self, entry_point: str, arguments: str) -> tuple[bool, Any, int]:
        """Return (True, value, length of its text), or (False, name of the exception, 0); raises HasEnded."""
        self._send({"call": entry_point, "arguments": f'{{"t": [{arguments}, {{"d": []}}]}}'})
        line = self._line()
        try:
            reply = json.loads(line)
            if "error" in reply:
                return False, str(reply["error"])[:100], 0
            return True, values.decode(reply["ok"]), len(line)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError):
            raise self.malformed() from None

    def malformed(self) -> HasEnded:
        """Return the end of a program that answered something else than a value."""
        return self._end("failed", "the program's answer is malformed")

    def too_long(self) -> HasEnded:
        """Return the end of a program that answered too much."""
        return self._end("failed", "the outputs are too long")

    def _send(self, request: dict[str, str]) -> None:
        try:
            self._wire.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            raise self._end("crash", "the program ended before the check") from None

    def _end(self, status: str, reason: str) -> HasEnded:
        self.ended = self.ended or HasEnded(status, reason)
        return self.ended

    def answer(self) -> Any:
        """Return the next answer of the program; raises as `ask` does."""
        line = self._line()
        try:
            reply = json.loads(line)
            if "error" in reply:
                kind = getattr(builtins, str(reply["error"]), Exception)
                is_error = isinstance(kind, type) and issubclass(kind, Exception)
                raise (kind if is_error else RuntimeError)(str(reply.get("text", "")))
            return values.decode(reply["ok"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            if "error" in line[:12].decode(errors="replace"):
                raise  # the program's own exception
            raise self.malformed() from None

    def _line(self) -> bytes:
        while b"\n" not in self._rest:
            remaining_s = self._deadline - time.monotonic()
            if remaining_s <= 0 or not select.select([self._wire], [], [], remaining_s)[0]:
                raise self._end("timeout", "longer than the wall limit")
            try:
                part = self._wire.recv(1 << 16)
            except OSError:
                part = b""
            if not part:
                raise self._end("crash", "the program ended without an answer")
            self._rest += part
            if len(self._rest) > MOST_BYTES:
                raise self._end("failed", "the answer is too long")
        line, _, rest = self._rest.partition(b"\n")
        self._rest = rest
        return bytes(line)
