"""The paths of Python's library that the clean interpreter needs, and a copy of it that other users can read."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from runtime_matrix.experiments.sandbox.layers import PACKAGES
from runtime_matrix.experiments.sandbox.messages import Places


def copied_library(folder: Path) -> list[str]:
    """Copy Python's library to a folder that other users can read; return its module search path."""
    source = Path(os.__file__).parent
    left_out = shutil.ignore_patterns(*PACKAGES, "test", "tests", "idlelib", "tkinter", "ensurepip", "config-*")
    shutil.copytree(source, folder, ignore=left_out)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return [str(folder), str(folder / "lib-dynload")]


def places(library: Sequence[str], packages: str) -> Places:
    """Return the paths that an interpreter needs: its library, shared objects and time zones.

    No files of the user, and of third-party packages only the folder `packages`, "" if there is none. `library` is the
    search path of the copy, if there is one.
    """
    own = [path for path in library[:1] or [sysconfig.get_path("stdlib"), os.path.dirname(os.__file__)]]
    shared = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"]
    files = ["/etc/ld.so.cache", "/usr/share/zoneinfo", "/dev/null", "/dev/urandom", "/dev/zero"]
    libraries = list(dict.fromkeys(os.path.realpath(path) for path in [*own, *shared] if os.path.isdir(path)))
    own = [os.path.realpath(path) for path in own]
    readable = [
        entry.path
        for folder in libraries
        for entry in os.scandir(folder)
        if entry.name not in PACKAGES
        and (folder in own or not entry.name.startswith("python"))
        and os.path.realpath(entry.path).startswith(f"{folder}/")  # without links to other folders
    ]
    hidden = {
        str(path)
        for folder in libraries
        for pattern in ("*", "python*/*")
        for path in Path(folder).glob(pattern)
        if path.name in PACKAGES
    }
    files = [os.path.realpath(path) for path in files]
    own_packages = [packages] if packages else []
    return {
        "library": list(library),
        "packages": packages,
        "readable": [*readable, *files, *own_packages],
        "listable": libraries,
        "writable": [],
        "executable": [],
        "shown": [*sorted(libraries, key=len), *files, *own_packages],
        "hidden": sorted(hidden),
    }
