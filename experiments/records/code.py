"""Which code a cell runs: a digest of its sources, and the versions of the packages that they import.

Classes are read and not imported: importing an engine takes seconds.
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
_OWN = (  # what runs in a cell; what shows its record may change
    "runtimes",
    *(f"experiments/{part}" for part in ("core", "tasks", "benchmarks", "cells", "measurement", "sandbox")),
)


def targets(runtime: JsonObject) -> list[str]:
    """Return the MODULE:CLASS names of a runtime's engine, weights and placement."""
    return [str(part["target"]) for part in runtime.values() if isinstance(part, Mapping) and "target" in part]


def code_of(names: Iterable[str]) -> Code:
    """Return the code that these MODULE:CLASS names run: a digest of this program's sources and of all that they import
    beside packages, and the versions of the packages, by distribution. Nothing is imported for it."""
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
    """Return the names of what the class's own constructor takes, read and not imported; None where that is open."""
    body = _class_body(target)
    made = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    if len(made) != 1 or made[0].args.kwarg is not None:
        return None
    return {one.arg for one in (*made[0].args.args[1:], *made[0].args.kwonlyargs)}


def declared_distributions(target: str) -> tuple[str, ...]:
    """Return what the class's own `distributions` says, read and not imported; nothing for a class without it.

    UserError where it is no tuple of string literals.
    """
    for node in _class_body(target):
        names = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(name, ast.Name) and name.id == "distributions" for name in names):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            return _texts(node.value, f"{target}: `distributions`")
    return ()


def _texts(value: ast.expr | None, what: str) -> tuple[str, ...]:
    try:
        found = ast.literal_eval(value) if value is not None else None
    except ValueError:
        found = None
    if not isinstance(found, tuple) or not all(isinstance(text, str) for text in found):
        raise UserError(f"{what} must be a tuple of string literals, as in ('onnx',): it is read without being run")
    return found


def _class_body(target: str) -> list[ast.stmt]:
    """Return the statements of a class; none where its module cannot be found or read: importing it will say so."""
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
    return tuple(path for name in _OWN for path in sorted((_ROOT / name).rglob("*.py")))


def _sources(module: str) -> dict[Path, set[str]]:
    """Return the files that a module needs, itself included, each with the names of the packages that it imports."""
    found: dict[Path, set[str]] = {}
    place = _place(module.partition(".")[0])
    left = [module] if place is not None else []
    seen: set[str] = set()
    while left:
        name = left.pop()
        if name in seen or place is None:
            continue
        seen.add(name)
        path = _file(place, name)
        if path is None:
            continue
        found[path] = set()
        for imported in _imports(path, name):
            if _is_local(place, imported, module):
                left.append(imported)
            else:
                found[path].add(imported.partition(".")[0])
    return found


def _place(package: str) -> Path | None:
    """Return the folder that holds a top-level module; it is looked for, not imported."""
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
    return next((one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file()), None)


def _is_local(place: Path, imported: str, module: str) -> bool:
    """Say whether it lies beside the module: among installed packages only what has the same first name does."""
    is_installed = place.name in ("site-packages", "dist-packages")
    first = imported.partition(".")[0]
    return (first == module.partition(".")[0] or not is_installed) and _file(place, first) is not None


def _imports(path: Path, module: str) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # importing it will say so
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
    """Return the versions of the distributions that bring these packages; Python's own have none."""
    by_package = _distributions()
    names = {name for one in packages if one not in sys.stdlib_module_names for name in by_package.get(one, ())}
    return {name: importlib.metadata.version(name) for name in sorted(names)}


@cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()
