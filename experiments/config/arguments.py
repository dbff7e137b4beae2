"""Parse the arguments that all commands share, before Hydra parses the overrides.

`--config-dir DIR` adds a folder of presets, as in Hydra; `GROUP=FILE.yaml` uses a preset file from any folder. Both
become entries of `hydra.searchpath`; a recorded command has them as they were typed.
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

from runtime_matrix.experiments.config.compose import CLAIMS, places
from runtime_matrix.experiments.config.errors import UserError, did_you_mean

SWEEP = ("-m", "--multirun")
_CONFIG_DIR = ("-cd", "--config-dir")
_SHOW = ("-c", "--cfg")
_RESOLVE = "--resolve"
_HEADER = "# @package _global_\n"  # an experiment sets keys of all groups
_SEARCH_PATH = "hydra.searchpath="


@dataclass
class Arguments:
    """A parsed command line: the overrides for Hydra, and the words as they were typed."""

    overrides: list[str] = field(default_factory=list)
    is_sweep: bool = False
    shown: str | None = None  # the value of --cfg: print this configuration instead of measuring
    is_resolved: bool = False
    folders: list[str] = field(default_factory=list)  # of presets, besides the built-in ones
    _path_words: list[str] = field(default_factory=list)  # that add folders
    _typed: dict[str, str] = field(default_factory=dict)  # override → the word as typed

    def as_typed(self, overrides: Sequence[str]) -> list[str]:
        """Return the command-line words for these overrides, with folders and files as they were typed."""
        return [*self._path_words, *(self._typed.get(word, word) for word in overrides)]


def read_arguments(words: Sequence[str], known: Sequence[str] = ()) -> Arguments:
    """Parse the words; UserError for an unknown flag. Flags in `known` stay among the overrides."""
    arguments = Arguments()
    folders: list[str] = []
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        flag, equals, value = word.partition("=")
        if word in SWEEP:
            arguments.is_sweep = True
        elif flag in (*_CONFIG_DIR, *_SHOW):
            if not equals:
                if not remaining:
                    raise UserError(f"{flag} needs a value: {flag} {'DIR' if flag in _CONFIG_DIR else 'job'}")
                value = remaining.pop(0)
            if flag in _SHOW:
                arguments.shown = value
            else:
                folders.append(_folder(value))
                arguments._path_words += ["--config-dir", value if "/" in value else f"./{value}"]
        elif word == _RESOLVE:
            arguments.is_resolved = True
        elif word.startswith(_SEARCH_PATH):
            folders += [folder.strip(" '\"") for folder in value.strip("[]").split(",") if folder.strip()]
            arguments._path_words.append(word)
        elif word.startswith("-") and flag not in known:
            flags = [*_CONFIG_DIR, *_SHOW, *SWEEP, _RESOLVE, "--help", "--version", *known]
            names = [name.lstrip("-") for name in flags if name.startswith("--")]
            raise UserError(f"{word} is not an option{did_you_mean(flag.lstrip('-'), names)}")
        elif value.endswith((".yaml", ".yml")) and flag.lstrip("+") in _groups() and "," not in value:
            option, folder = _option(flag.lstrip("+"), Path(value).expanduser())
            if folder not in folders:
                folders.append(folder)
            arguments.overrides.append(f"{flag}={option}")
            arguments._typed[f"{flag}={option}"] = word
        else:
            arguments.overrides.append(word)
    arguments.folders = [folder.removeprefix("file://") for folder in folders]
    if folders:
        quoted = ["'" + folder.replace("'", "\\'") + "'" for folder in folders]
        arguments.overrides.append(f"{_SEARCH_PATH}[{','.join(quoted)}]")
    return arguments


def _folder(value: str) -> str:
    path = Path(value).expanduser()
    if not path.is_dir():
        raise UserError(f"--config-dir {value} is not a folder")
    return f"file://{path.resolve()}"


@cache
def _groups() -> frozenset[str]:
    folders = (Path(inner).relative_to(root) for root in places() for inner, _, files in os.walk(root) if files)
    return frozenset(str(folder) for folder in folders if folder.name not in ("", "gate", CLAIMS))


@cache
def _own_options() -> Path:
    """Return a temporary folder for preset files given by path; it is removed when the command exits."""
    folder = Path(tempfile.mkdtemp(prefix="runtime-matrix-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _option(group: str, path: Path) -> tuple[str, str]:
    """Copy a preset file and return the preset's name and its search folder; UserError for an unreadable file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{group}={path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if group == "experiment" and "@package" not in text:
        text = _HEADER + text
    copy = _own_options() / group / f"{path.stem}.yaml"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(text, encoding="utf-8")
    return path.stem, f"file://{_own_options()}"
