"""`run --help`: what can be asked for, with the comments that stand beside each value in `conf/`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.config.compose import CONF, places

_HEAD = """\
Measure how a language model runs: speed, memory and accuracy of a runtime, in one record.

  python -m experiments.run                                        one cell: eager, the bundled model
  python -m experiments.run -m runtime=eager,compile,onnxruntime   a sweep, and its matrix
  python -m experiments.run experiment=default                     a saved sweep; also experiment=FILE.yaml
  python -m experiments.run model=local model.path=DIR             your own model
  python -m experiments.run 'benchmark=[perplexity]' benchmark.perplexity.data=FILE

Options of each group (GROUP=OPTION; runtime=gptq --help shows that option's values):
"""
_TAIL = """\
Flags: -m a sweep over values with commas; --config-dir DIR options of your own; --cfg job the configuration instead of
a measurement; --version; --hydra-help and --shell-completion are Hydra's own.
python -m experiments.report shows the matrix again."""
_INNER = ("runtime/weights", "runtime/placement", "model/architecture")
_CHOICE = re.compile(r"^  - (?:override )?/?([\w@/]+): (.+?)(?: *#.*)?$", re.M)
_LIST = re.compile(r"^  - (\w+): \[.*\]( #.*)?$", re.M)  # any number of options, and the comment beside them
_PACKAGE = re.compile(r"^# @package (\S+)", re.M)


def help_text(overrides: Sequence[str], folders: Sequence[str] = ()) -> str:
    """Return the help, for the options that the overrides choose. `folders` hold options beside ours."""
    found = [*places(), *map(Path, folders)]
    names = sorted({str(p.parent.relative_to(place)) for place in found for p in place.rglob("*.yaml")} - {"."})
    groups = [f"  {name}: {', '.join(_options(found, name))}" for name in names]
    text = (CONF / "config.yaml").read_text(encoding="utf-8")
    head, _, values = text.partition("\n\n")
    chosen = dict(_CHOICE.findall(head)) | {
        key: value for word in overrides for key, _, value in [word.lstrip("+").partition("=")] if key in names
    }
    parts = [_HEAD, *groups, "\nEvery value (KEY=VALUE):\n", values.partition("\nhydra:")[0].rstrip(), ""]
    for group in ("runtime", "model", "hw"):
        parts += _group(found, group, chosen)
    for group, comment in _LIST.findall(head):
        parts += [f"{group}:{comment}"]
        for option in chosen[group].strip("[]'").split(","):
            parts += _listed(found, group, option.strip())
        parts.append("")
    return "\n".join([*parts, _TAIL])


def _group(places: Sequence[Path], group: str, chosen: dict[str, str]) -> list[str]:
    option = chosen[group]
    lines = _block(places, group, option, 0)
    path = _path(places, group, option)
    inner = dict(_CHOICE.findall(path.read_text(encoding="utf-8"))) if path else {}
    for name in _INNER:
        below = name.removeprefix(f"{group}/")
        picked = chosen.get(name, inner.get(below))
        if below != name and picked:
            lines += _block(places, name, picked, 2)
    return [*lines, ""]


def _block(places: Sequence[Path], group: str, option: str, indent: int) -> list[str]:
    """Return an option's file as a block of YAML under the group's name."""
    lines = [f"{' ' * indent}{group.rpartition('/')[2]}: # {group}={option}"]
    return lines + _indented(_text(places, group, option), indent + 2)


def _listed(places: Sequence[Path], group: str, option: str) -> list[str]:
    """Return an option of a group of which several are chosen, below the group or the name that its package states."""
    text = _text(places, group, option)
    package = _PACKAGE.search(text)
    below = package[1].removeprefix(group).lstrip(".") if package else ""  # Hydra's default is the group itself
    return [f"  {below}:", *_indented(text, 4)] if below else _indented(text, 2)


def _indented(text: str, indent: int) -> list[str]:
    text = re.sub(r"^(# @package.*|defaults:|hints:)\n(  .*\n?)*", "", text, flags=re.M)
    return [f"{' ' * indent}{line}" for line in text.strip().splitlines()]


def _text(places: Sequence[Path], group: str, option: str) -> str:
    path = _path(places, group, option)
    return path.read_text(encoding="utf-8") if path else ""


def _path(places: Sequence[Path], group: str, option: str) -> Path | None:
    paths = [place / group / f"{option}.yaml" for place in places]
    return next((path for path in paths if path.is_file()), None)


def _options(places: Sequence[Path], group: str) -> list[str]:
    return sorted({path.stem for place in places for path in (place / group).glob("*.yaml")})
