"""Third-party packages that programs may import: found by import name and copied, file by file, for the sandbox.

A copy holds the files that the package's distribution lists and nothing else of the environment.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime_matrix.experiments.config.errors import UserError

# One thread each: programs are forked from a process that has imported the packages, and threads do not survive a fork.
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_UNUSED = (".pth", ".pyi", ".h", ".c", ".a", ".lib", ".pxd", ".f", ".f90")  # endings of files that no import reads


@dataclass(frozen=True)
class Package:
    """An installed package by the name that programs import."""

    name: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def find(names: Sequence[str]) -> tuple[Package, ...]:
    """Return the named packages; UserError if one is not installed, or needs another that is not named."""
    packages = tuple(_package(name) for name in dict.fromkeys(names))
    known = {_canonical(package.distribution) for package in packages}
    for package in packages:
        for needed in _needs(package.distribution):
            if _canonical(needed) not in known:
                raise UserError(
                    f"sandbox.packages=[{','.join(names)}]: {package.name} needs {needed}, which is not named; add it"
                )
    return packages


def copy_to(packages: Sequence[Package], folder: Path) -> None:
    """Copy the packages into a folder that every user can read."""
    for package in packages:
        distribution = importlib.metadata.distribution(package.distribution)
        for file in distribution.files or ():
            source, target = Path(str(distribution.locate_file(file))), folder / file
            is_outside = ".." in file.parts or file.is_absolute()
            if is_outside or file.suffix in _UNUSED or not source.is_file():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o644)
    for path, _, _ in os.walk(folder):
        os.chmod(path, 0o755)


def _package(name: str) -> Package:
    where = f"sandbox.packages: {name!r}"
    if not name.isidentifier():
        raise UserError(f"{where} is no import name; give names such as numpy, without paths, versions and dots")
    if name in sys.stdlib_module_names:
        raise UserError(f"{where} is one of Python's own modules, which programs can import anyway; leave it out")
    owners = _owners(name)
    if not owners:
        raise UserError(f"{where} is not installed in this environment as a package of its own; install it")
    if len(owners) > 1:
        raise UserError(f"{where} is shared by {' and '.join(owners)}, so it cannot be copied alone; leave it out")
    return Package(name, owners[0], importlib.metadata.version(owners[0]))


def _owners(name: str) -> list[str]:
    """Return the distributions that have files of this import name."""
    return [
        distribution.name
        for distribution in importlib.metadata.distributions()
        if any(_is_of(file, name) for file in distribution.files or ())
    ]


def _is_of(file: importlib.metadata.PackagePath, name: str) -> bool:
    first = file.parts[0]
    is_module = len(file.parts) == 1 and first.partition(".")[0] == name and file.suffix in (".py", ".so")
    return is_module or (len(file.parts) > 1 and first == name)


def _needs(distribution: str) -> list[str]:
    """Return the distributions that this one requires here, without those of its extras."""
    from packaging.requirements import Requirement

    requirements = map(Requirement, importlib.metadata.requires(distribution) or ())
    return [each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
