"""All judges: those in this folder and those that other packages register under `runtime_matrix.judges`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from runtime_matrix.experiments.config import plugins
from runtime_matrix.experiments.config.choice import read_choice
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import identity_of
from runtime_matrix.experiments.judges.judge import Judge

NO_JUDGE = "none"
_PACKAGE = __name__.rpartition(".")[0]


@dataclass(frozen=True)
class JudgeChoice:
    """The chosen judge with its options; by default none."""

    name: str = NO_JUDGE
    options: Any = None  # an instance of the judge's Config

    @property
    def judge(self) -> Judge[Any] | None:
        """The judge; None if none is chosen."""
        return None if self.name == NO_JUDGE else judges()[self.name]

    @classmethod
    def build_plain(cls, value: object, where: str) -> JudgeChoice:
        """Return the plain configuration as typed options; UserError for an unknown judge or option."""
        return cls(*read_choice(value, where, "judge", NO_JUDGE, judges, "judge=server", none=NO_JUDGE))

    @classmethod
    def identity_plain(cls, value: JsonObject) -> JsonObject:
        """Return the part of the plain configuration that affects figures."""
        judge = judges().get(str(value.get("name", NO_JUDGE)))  # records may name judges of another installation
        return dict(value) if judge is None else identity_of(judge.Config, value)


@cache
def judges() -> dict[str, Judge[Any]]:
    """Return all judges by name. One that cannot be loaded, or whose name is taken, is reported on stderr."""
    kind: type[Judge[Any]] = Judge
    return plugins.found(_PACKAGE, "JUDGE", plugins.JUDGES, kind, "judge")
