"""The process of a rank other than 0: `python -m runtime_matrix.runtimes.placements.rank SOCKET PARENT`.

It loads its part of the model and performs rank 0's orders until it is told to end, or rank 0 ends.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
from contextlib import nullcontext, suppress
from multiprocessing.connection import Connection
from typing import Any

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run the rank whose socket and parent the command line names."""
    _end_with_parent(int(sys.argv[2]))
    wire = Connection(int(sys.argv[1]))
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # rank 0 has ended
        _serve(wire)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # shutdown of an interpreter whose threads still communicate may hang


def _end_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _serve(wire: Connection) -> None:
    from runtime_matrix.runtimes.base import Unsupported
    from runtime_matrix.runtimes.placements.rank_processes import Failure

    try:
        start = _received(wire)
        _import(start)
        _send(wire, None)
        _load(wire, start)
        _obey(wire, start)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        import traceback

        traceback.print_exc()
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        is_unsupported = isinstance(error, Unsupported)
        _send(wire, Failure(text if is_unsupported else f"{type(error).__name__}: {text}", is_unsupported))


def _import(start: Any) -> None:
    from runtime_matrix.runtimes.weights import full
    from runtime_matrix.runtimes.weights.packages import import_all

    import_all((*full.modules_of(start.model), "transformers.distributed", "torch.distributed.tensor"))


def _load(wire: Connection, start: Any) -> None:
    from runtime_matrix.runtimes.placements import group

    with group.on_loopback():
        group.join(start.membership)
        traits = start.part.load(start.model, start.hw, lambda name: nullcontext())
    _send(wire, traits.ranks[0])


def _obey(wire: Connection, start: Any) -> None:
    """Perform orders until one says that there are no more."""
    from runtime_matrix.runtimes.placements import group
    from runtime_matrix.runtimes.placements.orders import Caches, Forward, perform

    caches: Caches = {}
    while (message := _received(wire)).order is not None:
        for key in message.freed:
            caches.pop(key, None)
        try:
            perform(start.part, caches, message.order)
        except ValueError:
            if not isinstance(message.order, Forward):  # the others are sent once rank 0 has performed them
                raise
    caches.clear()
    start.part.close()
    group.leave()


def _received(wire: Connection) -> Any:
    return pickle.loads(wire.recv_bytes())  # of our own parent


def _send(wire: Connection, message: Any) -> None:
    wire.send_bytes(pickle.dumps(message))


if __name__ == "__main__":
    main()
