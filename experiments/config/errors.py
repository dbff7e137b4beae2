"""The exception for users' mistakes in the configuration, the data or the command line (exit code 2)."""

import difflib
from collections.abc import Iterable

_MOST_NAMED = 10


class UserError(Exception):
    """A user's mistake in one line: what is wrong, what was found, what to do. It is printed without a traceback."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the nearest known word, or a list of at most ten known words."""
    options = sorted(known)
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    more = f" and {len(options) - _MOST_NAMED} more: see --help" if len(options) > _MOST_NAMED else ""
    return f"; known: {', '.join(options[:_MOST_NAMED]) or 'none'}{more}"
