"""All strategies: those in this folder and those that other packages register under `runtime_matrix.strategies`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator, Mapping
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
    by_name: dict[str, Strategy[Any]] = {}
    for strategy in (*_own(), *_others()):
        if by_name.setdefault(strategy.name, strategy) is not strategy:
            print(
                f"the strategy {strategy.name} of {type(strategy).__module__} is left out: the name is taken",
                file=sys.stderr,
            )
    return by_name


def _own() -> Iterator[Strategy[Any]]:
    folder = importlib.import_module(_PACKAGE)
    for module in pkgutil.iter_modules(folder.__path__):
        if module.name != "registry":
            strategy = getattr(importlib.import_module(f"{_PACKAGE}.{module.name}"), "STRATEGY", None)
            if isinstance(strategy, Strategy):
                yield strategy


def _others() -> Iterator[Strategy[Any]]:
    for point in plugins.registered(plugins.STRATEGIES).values():
        try:
            strategy = plugins.load(point)
        except plugins.Broken as error:
            print(f"the strategy {error}", file=sys.stderr)
            continue
        if isinstance(strategy, Strategy):
            yield strategy
        else:
            print(f"the strategy {point.name} is not an instance of Strategy: {point.value}", file=sys.stderr)
