"""The code that a cell runs: a digest of its sources, and the versions of the packages that they import.

Sources are parsed and not imported, because importing an engine takes seconds.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.targets import module_of
from runtime_matrix.experiments.records.schema import Code

_ROOT = Path(__file__).parents[2]
_PARTS = (
    "benchmarks",
    "cells",
    "detector",
    "evaluation",
    "execution",
    "harness",
    "judges",
    "launchers",
    "measurement",
    "problems",
    "sandbox",
    "statistics",
    "strategies",
    "tasks",
    "timing",
    "traffic",
)
_OWN = ("runtimes", *(f"experiments/{part}" for part in _PARTS))  # what runs in a cell, not what only shows records


def targets(runtime: JsonObject) -> list[str]:
    """Return the MODULE:CLASS names of a runtime's engine, weights and placement."""
    return [str(part["target"]) for part in runtime.values() if isinstance(part, Mapping) and "target" in part]


def code_of(names: Iterable[str]) -> Code:
    """Return the code that these MODULE:CLASS names run, without importing it.

    The digest covers this program's sources and all local modules that the names import. Packages count by version.
    """
    files, packages = set(_own_files()), set()
    for name in names:
        for path, imported in _sources(module_of(name)).items():
            files.add(path)
            packages |= imported
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return Code(digest=digest.hexdigest()[:32], versions=_versions(packages))


def constructor_options(target: str) -> set[str] | None:
    """Return the parameter names of the class's own constructor; None without one, or if it takes `**kwargs`."""
    body = _class_body(target)
    constructors = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    if len(constructors) != 1 or constructors[0].args.kwarg is not None:
        return None
    return {argument.arg for argument in (*constructors[0].args.args[1:], *constructors[0].args.kwonlyargs)}


def declared_texts(target: str, attribute: str) -> tuple[str, ...]:
    """Return a tuple of texts that the class itself declares, without importing it; empty for a class without it.

    Raises UserError if it is not a tuple of string literals.
    """
    for node in _class_body(target):
        names = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(name, ast.Name) and name.id == attribute for name in names):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            return _texts(node.value, f"{target}: `{attribute}`")
    return ()


def _texts(value: ast.expr | None, what: str) -> tuple[str, ...]:
    try:
        texts = ast.literal_eval(value) if value is not None else None
    except ValueError:
        texts = None
    if not isinstance(texts, tuple) or not all(isinstance(text, str) for text in texts):
        raise UserError(
            f"{what} must be a tuple of string literals, as in ('onnx',), because the class is parsed, not imported"
        )
    return texts


def _class_body(target: str) -> list[ast.stmt]:
    """Return the statements of a class; empty if its module is missing or unreadable: its import fails."""
    module = module_of(target)
    place = _place(module.partition(".")[0])
    path = _file(place, module) if place is not None else None
    try:
        tree = ast.parse(path.read_bytes()) if path is not None else ast.Module([], [])
    except (SyntaxError, ValueError):
        return []
    name = target.partition(":")[2]
    return [part for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name for part in node.body]


@cache
def _own_files() -> tuple[Path, ...]:
    sources = {name: sorted((_ROOT / name).rglob("*.py")) for name in _OWN}
    missing = [name for name, paths in sources.items() if not paths]
    if missing:
        raise RuntimeError(f"no sources in {', '.join(missing)}: a digest without them would miss changes")
    return tuple(path for paths in sources.values() for path in paths)


def _sources(module: str) -> dict[Path, set[str]]:
    """Return the local files that a module needs, itself included, each with the packages that it imports."""
    sources: dict[Path, set[str]] = {}
    place = _place(module.partition(".")[0])
    pending = [module] if place is not None else []
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen or place is None:
            continue
        seen.add(name)
        path = _file(place, name)
        if path is None:
            continue
        sources[path] = set()
        for imported in _imports(path, name):
            if _is_local(place, imported, module):
                pending.append(imported)
            else:
                sources[path].add(imported.partition(".")[0])
    return sources


def _place(package: str) -> Path | None:
    """Return the folder of a top-level module without importing it; None if there is none."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).parent
    return Path(spec.origin).parent if spec.origin and spec.origin.endswith(".py") else None


def _file(place: Path, module: str) -> Path | None:
    path = place.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _is_local(place: Path, imported: str, module: str) -> bool:
    """Return whether an import is local to the module; among installed packages, only those of its own package are."""
    is_installed = place.name in ("site-packages", "dist-packages")
    first = imported.partition(".")[0]
    return (first == module.partition(".")[0] or not is_installed) and _file(place, first) is not None


def _imports(path: Path, module: str) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # the later import reports it
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, [parent, node.module]))
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)  # perhaps modules


def _versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of the distributions that provide these packages, without Python's own modules."""
    by_package = _distributions()
    names = {
        name for package in packages if package not in sys.stdlib_module_names for name in by_package.get(package, ())
    }
    return {name: importlib.metadata.version(name) for name in sorted(names)}


@cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()
