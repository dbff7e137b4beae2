"""All judges: those in this folder and those that other packages register under `runtime_matrix.judges`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from runtime_matrix.experiments.config import plugins
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import build, identity_of
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
        if not isinstance(value, Mapping):
            raise UserError(f"{where} must be a mapping; found {value!r}")
        options = dict(value)
        name = str(options.pop("name", NO_JUDGE))
        if name == NO_JUDGE:
            if options:
                raise UserError(f"{where}.{min(options)} would be ignored: choose a judge, as in judge=server")
            return cls()
        known = judges()
        if name not in known:
            raise UserError(f"{where}.name={name} is not a known judge{did_you_mean(name, known)}")
        return cls(name, build(known[name].Config, options, where))

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
