"""All strategies: those in this folder and those that other packages register under `runtime_matrix.strategies`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from runtime_matrix.experiments.config import plugins
from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.records.schema import NO_STRATEGY
from runtime_matrix.experiments.strategies.strategy import Strategy

_PACKAGE = __name__.rpartition(".")[0]


@dataclass(frozen=True)
class StrategyChoice:
    """The chosen strategy with its options; by default none, which takes each text as it is."""

    name: str = NO_STRATEGY
    options: Any = None  # an instance of the strategy's Config

    @property
    def strategy(self) -> Strategy[Any] | None:
        """The strategy; None if none is chosen."""
        return None if self.name == NO_STRATEGY else strategies()[self.name]

    @classmethod
    def build_plain(cls, value: object, where: str) -> StrategyChoice:
        """Return the plain configuration as typed options; UserError for an unknown strategy or option."""
        if not isinstance(value, Mapping):
            raise UserError(f"{where} must be a mapping; found {value!r}")
        options = dict(value)
        name = str(options.pop("name", NO_STRATEGY))
        if name == NO_STRATEGY:
            if options:
                raise UserError(f"{where}.{min(options)} would be ignored: choose a strategy, as in strategy=vote")
            return cls()
        known = strategies()
        if name not in known:
            raise UserError(f"{where}.name={name} is not a known strategy{did_you_mean(name, known)}")
        return cls(name, build(known[name].Config, options, where))

    @classmethod
    def identity_plain(cls, value: JsonObject) -> JsonObject:
        """Return the part of the plain configuration that affects figures: all of it."""
        return dict(value)


@cache
def strategies() -> dict[str, Strategy[Any]]:
    """Return all strategies by name. One that cannot be loaded, or whose name is taken, is reported on stderr."""
    kind: type[Strategy[Any]] = Strategy  # type: ignore[type-abstract]  # only tested for, never created
    return plugins.found(_PACKAGE, "STRATEGY", plugins.STRATEGIES, kind, "strategy")
