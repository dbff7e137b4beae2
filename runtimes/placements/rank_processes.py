"""The processes of a model's other ranks: started, watched and ended by rank 0.

Orders go through a socket pair per rank. Its end is closed by the kernel if rank 0 ends, so that a rank never outlives
it, and the other way round, so that rank 0 learns at once of a rank that was killed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from runtime_matrix.runtimes.base import Hardware, ModelSource, Runtime, Unsupported
from runtime_matrix.runtimes.placements import group
from runtime_matrix.runtimes.placements.orders import Message
from runtime_matrix.runtimes.placements.tensor_parallel import TensorParallel
from runtime_matrix.runtimes.ranks import Rank

_GRACE_S = 5.0  # in which a rank ends after it was told to
_LAST_WORDS_S = 1.0  # in which the kernel closes the sockets of a process that ended
_PROTOCOL = pickle.HIGHEST_PROTOCOL
_MODULE = "runtime_matrix.runtimes.placements.rank"


class RankFailed(RuntimeError):
    """Another rank ended, failed or did not answer; the message is one line."""


@dataclass(frozen=True)
class Start:
    """What a rank is told first."""

    part: Runtime  # unloaded
    model: ModelSource
    hw: Hardware  # with this rank's threads
    membership: group.Membership


@dataclass(frozen=True)
class Failure:
    """A rank's last message."""

    reason: str  # one line
    is_unsupported: bool


class RankProcesses:
    """The processes of ranks 1 and up. `hw` is the hardware of one rank: the threads are shared out."""

    def __init__(self, part: Runtime, placement: TensorParallel, model: ModelSource, hw: Hardware):
        self._timeout_s = placement.timeout_s
        count = placement.ranks(hw)
        self.hw = replace(hw, threads=max(1, hw.threads // count)) if hw.device == "cpu" else hw
        self._folder = Path(tempfile.mkdtemp(prefix="ranks-"))
        self._group = group.Membership(0, count, placement.backend(hw), self._folder / "store", self._timeout_s)
        self._is_member = False
        self._failure: str | None = None  # of a rank; what is computed after it would be wrong
        self._children: list[subprocess.Popen[bytes]] = []
        self._wires: list[Connection] = []
        try:
            for rank in range(1, count):
                self._start(rank)
            for rank, wire in enumerate(self._wires, 1):
                with self._sending_to(rank):
                    start = Start(part, model, self.hw, replace(self._group, rank=rank))
                    wire.send_bytes(pickle.dumps(start, _PROTOCOL))
        except BaseException as error:
            self._failure = self._failure or str(error)
            self.close(lambda: None)
            raise

    @property
    def ids(self) -> Sequence[int]:
        """Return the ids of the processes, in the order of their ranks."""
        return tuple(child.pid for child in self._children)

    def wait_until_imported(self) -> None:
        """Return when all ranks have imported what loading needs. RankFailed, or Unsupported as they say."""
        self._answers()

    def connect(self) -> None:
        """Join the group of all ranks, which they do too."""
        with self.watched():
            group.join(self._group)
        self._is_member = True

    def wait_until_loaded(self) -> list[Rank]:
        """Return what the ranks hold. RankFailed, or Unsupported as they say."""
        ranks: list[Rank] = self._answers()
        self._forget_store()  # nothing is left behind if this process is killed later
        return ranks

    def send(self, message: Message) -> None:
        """Send a message to all ranks, pickled once. RankFailed if one has ended or does not read."""
        if self._failure is not None:
            raise RankFailed(self._failure)
        content = pickle.dumps(message, _PROTOCOL)
        for rank, wire in enumerate(self._wires, 1):
            with self._sending_to(rank):
                wire.send_bytes(content)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Compute with the other ranks. An error is theirs if one of them ended, and then RankFailed.

        A ValueError or Unsupported is raised by all ranks alike, before they compute, and changes nothing. After any
        other error the ranks no longer agree, so all later work fails too.
        """
        try:
            yield
        except (ValueError, Unsupported):
            raise
        except BaseException as error:
            reason = self._explained(error)
            self._failed(reason or f"rank 0 has failed before: {error}")
            if reason is not None:
                raise RankFailed(reason) from error
            raise

    def close(self, close_part: Callable[[], None]) -> None:
        """End the ranks and leave their group; `close_part` frees this rank's part before."""
        if self._failure is None:
            with contextlib.suppress(RankFailed):
                self.send(Message(None))
        for wire in self._wires:
            wire.close()
        close_part()
        if self._is_member:
            self._is_member = False
            group.leave()
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_GRACE_S if self._failure is None else 0)
            child.kill()
            child.wait()
        self._forget_store()

    def _forget_store(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, rank: int) -> None:
        own, other = socket.socketpair()
        with other:
            whole_s = int(self._timeout_s)
            limit = struct.pack("ll", whole_s, int((self._timeout_s - whole_s) * 1e6))
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)  # a rank that is stopped reads nothing
            child = subprocess.Popen(  # an argument list, without a shell
                [sys.executable, "-P", "-m", _MODULE, str(other.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,  # signals to this process's group are for rank 0, which ends the others
                env=_environment(rank, self.hw),
            )
        self._children.append(child)
        self._wires.append(Connection(own.detach()))

    @contextlib.contextmanager
    def _sending_to(self, rank: int) -> Iterator[None]:
        try:
            yield
        except BlockingIOError as error:
            raise RankFailed(self._failed(self._silence([rank]))) from error
        except OSError as error:
            reason = self._last_words() or f"rank {rank} cannot be reached: {error}"
            raise RankFailed(self._failed(reason)) from error

    def _answers(self) -> list[Any]:
        """Return one answer of each rank, in their order."""
        answers: dict[int, Any] = {}
        until = time.monotonic() + self._timeout_s
        while waiting := [rank for rank in range(1, self._group.ranks) if rank not in answers]:
            ready = wait([self._wires[rank - 1] for rank in waiting], max(0.0, until - time.monotonic()))
            if not ready:
                raise RankFailed(self._failed(self._silence(waiting)))
            for rank in waiting:
                if self._wires[rank - 1] in ready:
                    answers[rank] = self._answer(rank)
        return [answers[rank] for rank in sorted(answers)]

    def _answer(self, rank: int) -> Any:
        """Return what a rank has sent. RankFailed or Unsupported if it failed."""
        try:
            answer = pickle.loads(self._wires[rank - 1].recv_bytes())  # of our own child
        except (EOFError, OSError) as error:
            raise RankFailed(self._failed(self._end(rank))) from error
        if isinstance(answer, Failure):
            reason = self._failed(f"rank {rank} of {self._group.ranks}: {answer.reason}")
            raise Unsupported(answer.reason) if answer.is_unsupported else RankFailed(reason)
        return answer

    def _explained(self, error: BaseException) -> str | None:
        """Return in one line which rank made this rank fail; None if none did."""
        if not isinstance(error, Exception):
            return None
        silence = self._silence(range(1, self._group.ranks)) if "timed out" in str(error).lower() else None
        return self._last_words() or silence

    def _last_words(self) -> str | None:
        """Return why a rank ended; None if all of them live on."""
        for wire in wait(self._wires, _LAST_WORDS_S):
            try:
                self._answer(self._wires.index(wire) + 1)  # type: ignore[arg-type]  # one of ours
            except (RankFailed, Unsupported) as error:
                return str(error)
        return None

    def _end(self, rank: int) -> str:
        child = self._children[rank - 1]
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_LAST_WORDS_S)
        code = child.returncode
        how = "closed its connection" if code is None else f"ended with code {code}"
        if code is not None and code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        return f"rank {rank} of {self._group.ranks} {how}"

    def _silence(self, ranks: Sequence[int]) -> str:
        names = " and ".join(map(str, ranks))
        return (
            f"rank {names} of {self._group.ranks} did not answer within {self._timeout_s:g} s "
            "(runtime.placement.timeout_s)"
        )

    def _failed(self, reason: str) -> str:
        self._failure = self._failure or reason
        return self._failure


def _environment(rank: int, hw: Hardware) -> dict[str, str]:
    """Return a rank's environment: this process's, its import path, the threads, and which GPU it takes."""
    path = os.pathsep.join(filter(None, sys.path))
    own = {"PYTHONPATH": path, "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": str(hw.threads)}
    return {**os.environ, **own}
