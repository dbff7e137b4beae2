"""How the program was started, so that help, hints and recorded commands name it as it was typed."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

_IN_CHECKOUT = "python -m experiments"
_COMMAND = re.compile(r"python -m experiments\.(\w+)")


@cache
def _program() -> str:
    """Return the words before a command's name."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = spec.name if spec is not None else ""
    if name.startswith("experiments."):
        return f"{_IN_CHECKOUT}."
    if name == "runtime_matrix.__main__":
        return "python -m runtime_matrix "
    if Path(sys.argv[0]).stem == "runtime-matrix":
        return "runtime-matrix "
    # Within another program, such as pytest.
    is_checkout = (Path(__file__).resolve().parents[1] / "pyproject.toml").is_file()
    return f"{_IN_CHECKOUT}." if is_checkout else "runtime-matrix "


def command_line(command: str, words: Sequence[str] = ()) -> str:
    """Return a command line that starts one of our commands, as the user starts them."""
    return " ".join([f"{_program()}{command}", *map(shlex.quote, words)])


def as_typed(text: str) -> str:
    """Return a text in which our commands are named as the user starts them."""
    return _COMMAND.sub(lambda found: command_line(found[1]), text)
