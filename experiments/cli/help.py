"""The text of `run --help`: every option with its comment from `conf/`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.config.compose import CLAIMS, CONF, places

_HEAD = """\
Measure the speed, memory and accuracy of a runtime with a language model, in one record per cell.

  python -m experiments.run                                        one cell: eager, the bundled model
  python -m experiments.run -m runtime=eager,compile,onnxruntime   a sweep, and its matrix
  python -m experiments.run experiment=default                     a saved sweep; also experiment=FILE.yaml
  python -m experiments.run model=local model.path=DIR             your own model
  python -m experiments.run 'benchmark=[perplexity]' benchmark.perplexity.data=FILE

Options of each group (GROUP=OPTION; runtime=gptq --help shows that option's values):
"""
_TAIL = """\
Flags: -m sweeps over comma-separated values; --config-dir DIR adds a folder of options; --cfg job prints the
configuration and measures nothing; --version; --hydra-help and --shell-completion are Hydra's.
python -m experiments.report shows the matrix again."""
_INNER = ("runtime/weights", "runtime/placement", "model/architecture")
_CHOICE = re.compile(r"^  - (?:override )?/?([\w@/]+): (.+?)(?: *#.*)?$", re.M)
_LIST = re.compile(r"^  - (\w+): \[.*\]( #.*)?$", re.M)  # a list of options, and its comment
_PACKAGE = re.compile(r"^# @package (\S+)", re.M)


def help_text(overrides: Sequence[str], folders: Sequence[str] = ()) -> str:
    """Return the help with the options that the overrides choose; `folders` are additional folders of presets."""
    roots = [*places(), *map(Path, folders)]
    names = sorted(
        {str(path.parent.relative_to(root)) for root in roots for path in root.rglob("*.yaml")} - {".", CLAIMS}
    )
    groups = [f"  {name}: {', '.join(_options(roots, name))}" for name in names]
    text = (CONF / "config.yaml").read_text(encoding="utf-8")
    head, _, values = text.partition("\n\n")
    chosen = dict(_CHOICE.findall(head)) | {
        key: value for word in overrides for key, _, value in [word.lstrip("+").partition("=")] if key in names
    }
    parts = [_HEAD, *groups, "\nEvery value (KEY=VALUE):\n", values.partition("\nhydra:")[0].rstrip(), ""]
    for group in ("runtime", "model", "hw", "strategy", "judge", "launcher"):
        parts += _group(roots, group, chosen)
    for group, comment in _LIST.findall(head):
        parts += [f"{group}:{comment}"]
        for option in chosen[group].strip("[]'").split(","):
            parts += _listed(roots, group, option.strip())
        parts.append("")
    return "\n".join([*parts, _TAIL])


def _group(roots: Sequence[Path], group: str, chosen: dict[str, str]) -> list[str]:
    option = chosen[group]
    lines = _block(roots, group, option, 0)
    path = _path(roots, group, option)
    inner = dict(_CHOICE.findall(path.read_text(encoding="utf-8"))) if path else {}
    for name in _INNER:
        part = name.removeprefix(f"{group}/")
        preset = chosen.get(name, inner.get(part))
        if part != name and preset:
            lines += _block(roots, name, preset, 2)
    return [*lines, ""]


def _block(roots: Sequence[Path], group: str, option: str, indent: int) -> list[str]:
    """Return an option's file as indented YAML under the group's name."""
    lines = [f"{' ' * indent}{group.rpartition('/')[2]}: # {group}={option}"]
    return lines + _indented(_text(roots, group, option), indent + 2)


def _listed(roots: Sequence[Path], group: str, option: str) -> list[str]:
    """Return one of several options of a group, as YAML under its package's name."""
    text = _text(roots, group, option)
    package = _PACKAGE.search(text)
    name = package[1].removeprefix(group).lstrip(".") if package else ""  # Hydra's default is the group itself
    return [f"  {name}:", *_indented(text, 4)] if name else _indented(text, 2)


def _indented(text: str, indent: int) -> list[str]:
    text = re.sub(r"^(# @package.*|defaults:|hints:)\n(  .*\n?)*", "", text, flags=re.M)
    return [f"{' ' * indent}{line}" for line in text.strip().splitlines()]


def _text(roots: Sequence[Path], group: str, option: str) -> str:
    path = _path(roots, group, option)
    return path.read_text(encoding="utf-8") if path else ""


def _path(roots: Sequence[Path], group: str, option: str) -> Path | None:
    paths = [root / group / f"{option}.yaml" for root in roots]
    return next((path for path in paths if path.is_file()), None)


def _options(roots: Sequence[Path], group: str) -> list[str]:
    return sorted({path.stem for root in roots for path in (root / group).glob("*.yaml")})
