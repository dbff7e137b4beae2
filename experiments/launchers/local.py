"""The launcher of one machine: the command measures the cells itself, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from runtime_matrix.experiments.launchers.launcher import Launcher, Scheduler


@dataclass(frozen=True, kw_only=True)
class LocalConfig:
    """`local` has no options."""


class Local(Launcher[LocalConfig]):
    """Computes on this machine, without a scheduler."""

    name = "local"
    about = "This machine, one cell after the other."
    Config = LocalConfig

    @override
    def connect(self, config: LocalConfig, results: Path) -> Scheduler | None:
        return None


LAUNCHER = Local()
