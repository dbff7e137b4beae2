"""Runs a command within this process, as a user would from a shell: all runs then share one fork server."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from collections.abc import Callable, Sequence


def call(main: Callable[[], int], words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Return the exit code of `main` with these words on its command line, and what it printed."""
    before, out, err = sys.argv, io.StringIO(), io.StringIO()
    sys.argv = ["a command", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main()
            except SystemExit as error:  # of argparse, and of --cfg
                code = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        sys.argv = before
    return subprocess.CompletedProcess(list(words), code, out.getvalue(), err.getvalue())
