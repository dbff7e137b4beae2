"""All launchers: those in this folder and those that other packages register under `runtime_matrix.launchers`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.config import plugins
from runtime_matrix.experiments.config.choice import read_choice
from runtime_matrix.experiments.launchers.launcher import Launcher, Scheduler

LOCAL = "local"
_PACKAGE = __name__.rpartition(".")[0]


@dataclass(frozen=True)
class LauncherChoice:
    """The chosen launcher with its options; by default `local`."""

    name: str = LOCAL
    options: Any = None  # an instance of the launcher's Config

    @classmethod
    def build_plain(cls, value: object, where: str) -> LauncherChoice:
        """Return the plain configuration as typed options; UserError for an unknown launcher or option."""
        return cls(*read_choice(value, where, "launcher", LOCAL, launchers, "launcher=slurm"))

    def connect(self, results: Path) -> Scheduler | None:
        """Return the scheduler of the launcher; None if the command computes the cells itself. See `Launcher`."""
        return launchers()[self.name].connect(self.options, results)


@cache
def launchers() -> dict[str, Launcher[Any]]:
    """Return all launchers by name. One that cannot be loaded, or whose name is taken, is reported on stderr."""
    kind: type[Launcher[Any]] = Launcher  # type: ignore[type-abstract]
    return plugins.found(_PACKAGE, "LAUNCHER", plugins.LAUNCHERS, kind, "launcher")
