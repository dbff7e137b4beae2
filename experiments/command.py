"""What every command that measures does around its work: help, a user's mistake in one line, Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from experiments.errors import UserError


def run_command(
    argv: Sequence[str] | None,
    help_text: str | None,
    work: Callable[[Sequence[str]], int],
    when_interrupted: str = "what was measured is recorded",
) -> int:
    """Hand the words of the command line to `work` and return its exit code; 2 for a mistake, 130 for Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    if any(word in ("-h", "--help") for word in words):
        print(help_text)
        return 0
    try:
        return work(words)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted: {when_interrupted}", file=sys.stderr)
        return 130
