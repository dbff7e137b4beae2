"""Calls of other packages in our engines, read from the sources, and the signatures that they must fit.

python -m tests.runtimes.foreign_calls SIGNATURES.json    with the packages of another machine: writes theirs
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SIGNATURES = Path(__file__).parent / "signatures.json"
PACKAGES = ("torch", "transformers", "torchao", "bitsandbytes", "accelerate", "onnxruntime")
# What a name stands for where our code is handed it, and in the files that talk to TensorRT.
KNOWN = {"trt": "tensorrt_rtx", "self._trt": "tensorrt_rtx"}
OF_TENSORRT = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "engine": "ICudaEngine",
    "self._engine": "ICudaEngine",
    "options": "IRuntimeConfig",
    "context": "IExecutionContext",
    "self._runtime": "Runtime",
}
_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "/",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "",
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.KEYWORD_ONLY: "=",
    inspect.Parameter.VAR_KEYWORD: "**",
}

Parameters = list[list[Any]]  # of a callable: name, kind, whether it has a default


@dataclass(frozen=True)
class Call:
    where: str  # file:line
    target: str  # such as torch.onnx.export
    positional: int
    keywords: tuple[str, ...]
    is_open: bool  # *args or **options are among what it is given


def calls(files: Iterator[Path] | None = None) -> Iterator[Call]:
    """Yield the calls of foreign functions and classes by a name that the source resolves."""
    for path in files or sorted((ROOT / "runtimes").rglob("*.py")):
        tree = ast.parse(path.read_text())
        names = KNOWN | dict(_imported(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (target := _resolved(node.func, names)) is not None:
                yield Call(
                    f"{path.relative_to(ROOT)}:{node.lineno}",
                    target,
                    sum(not isinstance(value, ast.Starred) for value in node.args),
                    tuple(word.arg for word in node.keywords if word.arg is not None),
                    any(isinstance(value, ast.Starred) for value in node.args)
                    or any(word.arg is None for word in node.keywords),
                )


def attributes() -> Iterator[tuple[str, str]]:
    """Yield (file:line, dotted name) of each name of TensorRT's module that our code reads."""
    for path in sorted((ROOT / "runtimes").rglob("tensorrt*.py")):
        is_plan = path.stem in ("tensorrt_plan", "tensorrt_build")
        names = KNOWN | {name: f"tensorrt_rtx.{kind}" for name, kind in OF_TENSORRT.items() if is_plan}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and (target := _resolved(node, names)) is not None:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", target


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield each name that an import makes, and what it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                yield alias.asname or first, alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _resolved(node: ast.AST, names: Mapping[str, str]) -> str | None:
    """Return the dotted name of something of another package, or None."""
    dotted = _dotted(node) or ""
    for name in sorted(names, key=len, reverse=True):
        if dotted == name or dotted.startswith(f"{name}."):
            full = names[name] + dotted.removeprefix(name)
            return full if full.partition(".")[0] in (*PACKAGES, "tensorrt_rtx") else None
    return None


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return f"{before}.{node.attr}" if before else None
    return node.id if isinstance(node, ast.Name) else None


def found(target: str) -> Any:
    """Return what the dotted name stands for. ImportError or AttributeError where nothing does."""
    first, *others = target.split(".")
    value, path = importlib.import_module(first), first
    for name in others:
        path = f"{path}.{name}"
        if not hasattr(value, name) and inspect.ismodule(value):
            with suppress(ImportError):
                importlib.import_module(path)
        value = getattr(value, name)
    return value


def parameters(target: str) -> Parameters | None:
    """Return a callable's parameters; None where it does not tell them, as much that is written in C."""
    value = found(target)
    try:
        # transformers copies class methods: followed to the copy's origin, they lose a parameter.
        every = inspect.signature(value, follow_wrapped=not inspect.ismethod(value)).parameters.values()
    except ValueError:
        return None
    return [[each.name, _KINDS[each.kind], each.default is not inspect.Parameter.empty] for each in every]


def misfit(call: Call, known: Parameters) -> str | None:
    """Return why the callable does not take such a call, or None."""
    kinds = {mark: kind for kind, mark in _KINDS.items()}
    made = [
        inspect.Parameter(name, kinds[mark], default=None if has_default else inspect.Parameter.empty)
        for name, mark, has_default in known
    ]
    signature = inspect.Signature(made)
    bind = signature.bind_partial if call.is_open else signature.bind
    try:
        bind(*[None] * call.positional, **dict.fromkeys(call.keywords))
    except TypeError as error:
        return str(error)
    return None


def main(out: Path) -> None:
    targets = sorted({call.target for call in calls()})
    signatures: dict[str, Parameters] = {}
    for target in targets:
        try:
            known = parameters(target)
        except ImportError:
            continue
        if known is not None:
            signatures[target] = known
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    lines = ",\n".join(f"  {json.dumps(target)}: {json.dumps(known)}" for target, known in signatures.items())
    out.write_text(f'{{\n "versions": {json.dumps(versions)},\n "signatures": {{\n{lines}\n }}\n}}\n')


if __name__ == "__main__":
    main(Path(sys.argv[1]))
