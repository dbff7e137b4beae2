"""How the program was started, so that help, hints and recorded commands name it as it was typed."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

_IN_CHECKOUT = "python -m experiments"
_INPUTS = ("path", "data", "solutions", "draft_model", "baseline")  # keys whose value may be a path
_OUTPUTS = ("results_dir", "artifacts_dir", "output")
_COMMAND = re.compile(r"python -m experiments\.(\w+)")


def drop_second_name() -> None:
    """Forget the second name of our package under `python -m experiments.COMMAND`, see `experiments/__init__.py`."""
    sys.modules.pop("experiments", None)


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
    is_checkout = (Path(__file__).resolve().parents[2] / "pyproject.toml").is_file()
    return f"{_IN_CHECKOUT}." if is_checkout else "runtime-matrix "


def command_line(command: str, words: Sequence[str] = ()) -> str:
    """Return a command line that starts one of our commands, as the user starts them."""
    return " ".join([f"{_program()}{command}", *map(shlex.quote, words)])


def recorded_command(command: str, words: Sequence[str]) -> str:
    """Return a command line for a record: it can be typed anywhere, or in the checkout where there is one.

    `python -m experiments` works in one folder, so that relative paths are right there; the program works in any.
    """
    is_bound = _program().startswith(_IN_CHECKOUT)
    return command_line(command, words if is_bound else [_absolute(word) for word in words])


def _absolute(word: str) -> str:
    key, equals, value = word.partition("=")
    name = key.rpartition(".")[2]
    if not equals:
        return str(Path(word).absolute()) if "/" in word and Path(word).is_dir() else word  # behind --config-dir
    if name in _OUTPUTS or ((name in _INPUTS or value.endswith((".yaml", ".yml"))) and Path(value).exists()):
        return f"{key}={Path(value).absolute()}"
    return word


def as_typed(text: str) -> str:
    """Return a text in which our commands are named as the user starts them."""
    return _COMMAND.sub(lambda found: command_line(found[1]), text)
