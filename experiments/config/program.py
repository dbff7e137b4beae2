"""How the program was started, so that help, hints and recorded commands show it as it was typed."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

_IN_CHECKOUT = "python -m experiments"
_INPUTS = ("path", "data", "solutions", "draft_model", "baseline")  # options whose value may be a path
_OUTPUTS = ("results_dir", "artifacts_dir", "output")
_COMMAND = re.compile(r"python -m experiments\.(\w+)")


def drop_second_name() -> None:
    """Remove the alias `experiments` from `sys.modules`, see `experiments/__init__.py`."""
    sys.modules.pop("experiments", None)


def _program() -> str:
    """Return the text before a command's name, with its separator."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = spec.name if spec is not None else ""
    if name.startswith("experiments."):
        return f"{_IN_CHECKOUT}."
    if name == "runtime_matrix.__main__":
        return "python -m runtime_matrix "
    if Path(sys.argv[0]).stem == "runtime-matrix":
        return "runtime-matrix "
    # Started by another program, such as pytest.
    is_checkout = (Path(__file__).resolve().parents[2] / "pyproject.toml").is_file()
    return f"{_IN_CHECKOUT}." if is_checkout else "runtime-matrix "


def command_line(command: str, words: Sequence[str] = ()) -> str:
    """Return a shell-quoted command line, in the form in which the user started the program."""
    return " ".join([f"{_program()}{command}", *map(shlex.quote, words)])


def recorded_command(command: str, words: Sequence[str]) -> str:
    """Return a command line for a record that works in any folder, or in the checkout if it was started there.

    `python -m experiments` works only in the checkout, so relative paths stay; otherwise they become absolute.
    """
    is_in_checkout = _program().startswith(_IN_CHECKOUT)
    return command_line(command, words if is_in_checkout else [_absolute(word) for word in words])


def _absolute(word: str) -> str:
    key, equals, value = word.partition("=")
    name = key.rpartition(".")[2]
    if not equals:
        return str(Path(word).absolute()) if "/" in word and Path(word).is_dir() else word  # the value of --config-dir
    if name in _OUTPUTS or ((name in _INPUTS or value.endswith((".yaml", ".yml"))) and Path(value).exists()):
        return f"{key}={Path(value).absolute()}"
    return word


def as_typed(text: str) -> str:
    """Return the text with each command in the form in which the user started the program."""
    return _COMMAND.sub(lambda match: command_line(match[1]), text)
