"""The words of a command line before Hydra reads them: flags that all commands share, folders and files of options.

`--config-dir DIR` adds a folder of options, as Hydra means it; `GROUP=FILE.yaml` takes an option that lies anywhere.
Both become entries of `hydra.searchpath`, and a recorded command keeps them as they were typed.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from runtime_matrix.experiments.config.compose import places
from runtime_matrix.experiments.config.errors import UserError, did_you_mean

SWEEP = ("-m", "--multirun")
_CONFIG_DIR = ("-cd", "--config-dir")
_SHOW = ("-c", "--cfg")
_RESOLVE = "--resolve"
_HEADER = "# @package _global_\n"  # an experiment sets keys of every group
_LISTS = "hydra.searchpath="


@dataclass
class Arguments:
    """Which overrides Hydra gets, and what was typed."""

    overrides: list[str] = field(default_factory=list)
    is_sweep: bool = False
    shown: str | None = None  # of which configuration only the text is wanted
    is_resolved: bool = False
    folders: list[str] = field(default_factory=list)  # of options, beside ours
    _kept: list[str] = field(default_factory=list)
    _typed: dict[str, str] = field(default_factory=dict)

    def as_typed(self, overrides: Sequence[str]) -> list[str]:
        """Return the words that bring these overrides about, in a recorded command."""
        return [*self._kept, *(self._typed.get(word, word) for word in overrides)]


def read_arguments(words: Sequence[str], known: Sequence[str] = ()) -> Arguments:
    """Return what the words ask for; UserError for an unknown flag. `known` flags are left among the overrides."""
    read = Arguments()
    places: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        flag, equals, value = word.partition("=")
        if word in SWEEP:
            read.is_sweep = True
        elif flag in (*_CONFIG_DIR, *_SHOW):
            if not equals:
                if not left:
                    raise UserError(f"{flag} needs a value: {flag} {'DIR' if flag in _CONFIG_DIR else 'job'}")
                value = left.pop(0)
            if flag in _SHOW:
                read.shown = value
            else:
                places.append(_folder(value))
                read._kept += ["--config-dir", value if "/" in value else f"./{value}"]
        elif word == _RESOLVE:
            read.is_resolved = True
        elif word.startswith(_LISTS):
            places += [place.strip(" '\"") for place in value.strip("[]").split(",") if place.strip()]
            read._kept.append(word)
        elif word.startswith("-") and flag not in known:
            flags = [*_CONFIG_DIR, *_SHOW, *SWEEP, _RESOLVE, "--help", "--version", *known]
            names = [name.lstrip("-") for name in flags if name.startswith("--")]
            raise UserError(f"{word} is not an option{did_you_mean(flag.lstrip('-'), names)}")
        elif value.endswith((".yaml", ".yml")) and flag.lstrip("+") in _groups() and "," not in value:
            option, place = _option(flag.lstrip("+"), Path(value).expanduser())
            if place not in places:
                places.append(place)
            read.overrides.append(f"{flag}={option}")
            read._typed[f"{flag}={option}"] = word
        else:
            read.overrides.append(word)
    read.folders = [place.removeprefix("file://") for place in places]
    if places:
        quoted = ["'" + place.replace("'", "\\'") + "'" for place in places]
        read.overrides.append(f"{_LISTS}[{','.join(quoted)}]")
    return read


def _folder(value: str) -> str:
    path = Path(value).expanduser()
    if not path.is_dir():
        raise UserError(f"--config-dir {value} is not a folder")
    return f"file://{path.resolve()}"


@cache
def _groups() -> frozenset[str]:
    folders = (Path(inner).relative_to(place) for place in places() for inner, _, files in os.walk(place) if files)
    return frozenset(str(folder) for folder in folders if folder.name not in ("", "gate"))


@cache
def _own_options() -> Path:
    """Return a folder for the files that were named, for as long as the command runs."""
    folder = Path(tempfile.mkdtemp(prefix="runtime-matrix-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _option(group: str, path: Path) -> tuple[str, str]:
    """Return an option's name and the folder to search for it; UserError for a file that cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{group}={path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if group == "experiment" and "@package" not in text:
        text = _HEADER + text
    place = _own_options() / group / f"{path.stem}.yaml"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    return path.stem, f"file://{_own_options()}"
