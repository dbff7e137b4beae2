"""All strategies: those in this folder and those that other packages register under `runtime_matrix.strategies`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from runtime_matrix.experiments.config import plugins
from runtime_matrix.experiments.config.choice import read_choice
from runtime_matrix.experiments.config.plain_json import JsonObject
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
        return cls(*read_choice(value, where, "strategy", NO_STRATEGY, strategies, "strategy=vote", none=NO_STRATEGY))

    @classmethod
    def identity_plain(cls, value: JsonObject) -> JsonObject:
        """Return the part of the plain configuration that affects figures: all of it."""
        return dict(value)


@cache
def strategies() -> dict[str, Strategy[Any]]:
    """Return all strategies by name. One that cannot be loaded, or whose name is taken, is reported on stderr."""
    kind: type[Strategy[Any]] = Strategy  # type: ignore[type-abstract]  # only tested for, never created
    return plugins.found(_PACKAGE, "STRATEGY", plugins.STRATEGIES, kind, "strategy")
