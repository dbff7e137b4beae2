"""Run a command: help and version, users' mistakes in one line, exit codes, and an orderly end at a signal."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import as_typed, drop_second_name
from runtime_matrix.experiments.execution import guard
from runtime_matrix.experiments.records.environment import commit

# After the first signal: when the processes of the run are killed, and when the command itself exits.
_FORCE_S, _LAST_S = 18.0, 23.0
_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}
_PATIENCE_S = 0.3  # for processes that end by themselves; cells have ended by then


class Stopped(KeyboardInterrupt):
    """A signal ended the command; `exit_code` is 128 and the signal's number."""

    def __init__(self, number: int):
        super().__init__()
        self.exit_code = 128 + number
        self.reason = "interrupted by the user" if number == signal.SIGINT else f"by {signal.Signals(number).name}"


def run_command(
    argv: Sequence[str] | None,
    help_text: str | None,
    work: Callable[[Sequence[str]], int],
    when_interrupted: str = "completed cells are recorded",
) -> int:
    """Print help or version, or call `work` with the words of the command line; return the exit code of `measuring`.

    `argv` None: the words of `sys.argv`. `when_interrupted` says what is kept after a signal.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if "--version" in words:
        return speaking(lambda: print(version_text()) or 0)
    if any(word in ("-h", "--help") for word in words):
        return speaking(lambda: print(as_typed(help_text or "")) or 0)
    return measuring(lambda: work(words), when_interrupted)


def version_text() -> str:
    """Return the program's version, with the commit in a checkout."""
    import importlib.metadata

    digest = commit()
    return f"runtime-matrix {importlib.metadata.version('runtime-matrix')}" + (f" ({digest[:10]})" if digest else "")


def measuring(work: Callable[[], int], when_interrupted: str) -> int:
    """Return the exit code of `work`; 2 for a user's mistake, 128 and the signal's number after a signal.

    SIGINT, SIGTERM and SIGHUP end it within 25 s; a second signal ends it at once. No process is left running.
    """

    def stoppable() -> int:
        with _stoppable():
            try:
                return work()
            except KeyboardInterrupt as stopped:
                print(f"interrupted: {when_interrupted}", file=sys.stderr)
                guard.end_all(_PATIENCE_S)
                return stopped.exit_code if isinstance(stopped, Stopped) else 130

    return speaking(stoppable)


def speaking(work: Callable[[], int]) -> int:
    """Return the exit code of `work`; 2 for a user's mistake, 1 for an unwritable file, 141 for a closed pipe.

    Output works in a locale that lacks characters, with a closed pipe, and without standard streams.
    """
    drop_second_name()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed when the program started
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        code = work()
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {as_typed(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _discard_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        where = f": {error.filename}" if error.filename else " in the standard output"
        print(f"error: {error.strerror}{where}; earlier records are complete", file=sys.stderr)
        _discard_output()
        return 1


def _discard_output() -> None:
    """Redirect the standard output, so that the interpreter does not flush it again at exit."""
    with contextlib.suppress(OSError):  # a stream without a file descriptor
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Raise `Stopped` at the first signal; at the second, end all processes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers: list[int] = []

    def stop(number: int, _: Any) -> None:
        numbers.append(number)
        if len(numbers) > 1:
            _end(numbers[0])
        for seconds, work in ((_FORCE_S, guard.end_all), (_LAST_S, lambda: _end(number))):
            timer = threading.Timer(seconds, work)
            timer.daemon = True
            timer.start()
        raise Stopped(number)

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) not in (signal.SIG_IGN, None):  # ignored, as under nohup
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int) -> None:
    guard.end_all()
    os._exit(128 + number)
