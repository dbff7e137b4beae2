"""Forks one confined child per program, which answers the grader's requests. Never sees a check.

Runs in the clean interpreter, forked from the grader before its first job. Standard library only.
"""

from __future__ import annotations

import builtins
import gc
import json
import os
import shutil
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import layers
import seccomp
import values

if TYPE_CHECKING:
    from runtime_matrix.experiments.sandbox.messages import Ended, Order

# Modules that programs usually import, loaded once here instead of once per program. Without random, threading and
# modules that import them: their work at each fork costs every program a third of a millisecond.
COMMON = """
typing math cmath collections itertools functools re heapq string datetime copy operator bisect hashlib decimal
fractions json time array abc enum dataclasses contextlib sys os
"""


def serve(
    orders: socket.socket, nothing: int, filters: tuple[seccomp.Filter, seccomp.Filter] | None, scratch: str | None
) -> None:
    """Serve orders until the grader ends: an order with a socket starts a program, any other order ends it."""
    layers.die_with_parent()
    for name in COMMON.split():
        __import__(name)
    gc.collect()
    gc.freeze()  # otherwise a collection in a child would touch, and so copy, every page
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    if filters is not None:
        filters[0].apply()
    pid = 0
    while True:
        order, files, _, _ = socket.recv_fds(orders, 64, 1)
        if not order:
            os._exit(0)
        if files:
            program = _receive(orders, int(order))
            pid = os.fork()
            if pid == 0:
                _begin(program, files[0], filters[1] if filters else None, scratch, orders)
            os.close(files[0])
        else:
            code, cpu_s = _end(pid)
            ended: Ended = {"code": code, "cpu_s": cpu_s, "is_clean": scratch is None or clear(scratch)}
            orders.sendall(json.dumps(ended).encode())


def _receive(orders: socket.socket, size: int) -> Order:
    content = bytearray()
    while len(content) < size:
        part = orders.recv(size - len(content))
        if not part:
            os._exit(0)
        content += part
    order: Order = json.loads(content)
    return order


def _end(pid: int) -> tuple[int, float]:
    """Kill the program and its children; return its exit code and CPU seconds."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)  # it has not yet created its own process group
    _, status, usage = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime


def clear(scratch: str) -> bool:
    """Empty the scratch folder; return False if something cannot be removed, such as an unreadable folder."""
    for entry in os.scandir(scratch):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)
    return not os.listdir(scratch)


def _begin(
    order: Order,
    grader: int,
    own_filter: seccomp.Filter | None,
    scratch: str | None,
    orders: socket.socket,
) -> None:
    """Confine this child and run the program; never returns."""
    code = 1
    try:
        os.setsid()
        layers.die_with_parent()
        orders.close()
        if scratch is not None:
            os.chdir(scratch)
        layers.limit(layers.Limits(**order["limits"]))
        if own_filter is not None:
            own_filter.apply()
        _serve_program(order["program"], grader)
        code = 0
    finally:
        os._exit(code)


def _serve_program(program: str, grader: int) -> None:
    names: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
    # Local names, because the program may replace module attributes.
    dumps, loads, error_of = values.dumps, values.loads, _error
    try:
        exec(compile(program, "<program>", "exec"), names)
        answer = '{"ok": null}'
    except BaseException as error:
        answer = error_of(error)
    while True:
        # By descriptor instead of socket: the filter denies the system calls of sockets.
        _send(grader, answer.encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            part = os.read(grader, 1 << 16)
            if not part:
                return
            line += part
        request = json.loads(line)
        try:
            if "call" in request:
                arguments, keywords = loads(request["arguments"])
                result = names[request["call"]](*arguments, **keywords)
                answer = '{"ok": ' + dumps(result) + "}"
            elif "value" in request:
                answer = '{"ok": ' + dumps(eval(request["value"], names)) + "}"
            else:
                exec(request["run"], names)
                answer = '{"ok": null}'
        except BaseException as error:
            answer = error_of(error)


def _send(wire: int, message: bytes) -> None:
    while message:
        message = message[os.write(wire, message) :]


def _error(error: BaseException) -> str:
    kind = type(error)
    try:
        text = str(error)[:200]
    except BaseException:
        text = ""
    known = kind.__name__ if getattr(builtins, kind.__name__, None) is kind else "Exception"
    return json.dumps({"error": known, "text": text if type(text) is str else ""})


if __name__ == "__main__":
    sys.exit("forked by grader.py, not run")
