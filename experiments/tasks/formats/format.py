"""A format of a data set: what is of it, and how it is read. One is chosen by content, or by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.tasks.formats.content import Content

T = TypeVar("T")


@dataclass(frozen=True)
class Format(Generic[T]):
    """A format that a benchmark reads. Adding one is one file in the folder of its kind."""

    name: str  # benchmark.X.format=NAME
    title: str  # in sentences, such as "VMLU's JSON lines"
    claims: Callable[[Content], bool]  # whether the content is of this format, almost or exactly
    read: Callable[[Content], T]  # UserError names the item, the field and what was expected
    is_general: bool = False  # read with it what no other format claims


@cache
def formats(kind: str) -> dict[str, Format[Any]]:
    """Return the formats of a kind, a folder of this package, by name."""
    package = importlib.import_module(f"{__package__}.{kind}")
    modules = [importlib.import_module(f"{package.__name__}.{found.name}") for found in _modules(package.__path__)]
    known = [found for module in modules if isinstance(found := getattr(module, "FORMAT", None), Format)]
    return {found.name: found for found in known}


def chosen(kind: str, content: Content, name: str | None, benchmark: str) -> Format[Any]:
    """Return the format called `name`; without a name the one that claims the content.

    UserError if none does, or if several do. Mapped fields are those of a general format.
    """
    known = formats(kind)
    if name is not None:
        check_name(kind, name, benchmark)
        if content.fields and not known[name].is_general:
            raise UserError(f"benchmark.{benchmark}.fields has no effect with format={name}: leave one of them out")
        return known[name]
    specific = [] if content.fields else _claimants(content, [part for part in known.values() if not part.is_general])
    claimants = specific or _claimants(content, [part for part in known.values() if part.is_general])
    if len(claimants) > 1:
        names = " or ".join(part.name for part in claimants)
        raise UserError(f"{content.path} can be read as {names}: choose one with benchmark.{benchmark}.format=NAME")
    if not claimants:
        titles = ", ".join(part.title for part in known.values())
        raise UserError(f"{content.path} is in no known format; give {content.wanted}: {titles}")
    return claimants[0]


def check_name(kind: str, name: str | None, benchmark: str) -> None:
    """Raise UserError for the name of an unknown format."""
    if name is not None and name not in formats(kind):
        raise UserError(f"benchmark.{benchmark}.format={name} is not a known format{did_you_mean(name, formats(kind))}")


def text_field(item: JsonObject, name: str, where: str, title: str) -> str:
    """Return a field that is a text and not empty; UserError with the location otherwise."""
    value = item.get(name)
    if not isinstance(value, str) or not value.strip():
        found = f"found {str(value)[:60]!r}" if name in item else f"found the fields {', '.join(map(str, item))}"
        raise UserError(f"{where}: {name} must be a text that is not empty, as in {title}; {found}")
    return value


def _claimants(content: Content, among: Sequence[Format[Any]]) -> list[Format[Any]]:
    return [part for part in among if part.claims(content)]


def _modules(path: Any) -> list[pkgutil.ModuleInfo]:
    return sorted(pkgutil.iter_modules(path), key=lambda module: module.name)
