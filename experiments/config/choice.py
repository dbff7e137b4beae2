"""Read the choice of a plug-in from a configuration: its name, and the options of its own `Config`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from runtime_matrix.experiments.config.errors import UserError, did_you_mean
from runtime_matrix.experiments.config.validate import build


class Configured(Protocol):
    """A plug-in with options."""

    @property
    def Config(self) -> type[Any]:
        """The dataclass of its options."""
        ...


def read_choice(
    value: object,
    where: str,
    noun: str,
    default: str,
    known: Callable[[], Mapping[str, Configured]],
    example: str,
    none: str | None = None,
) -> tuple[str, Any]:
    """Return the name and the typed options of the plug-in that the plain configuration chooses.

    `default` is chosen without a name. `none` is the name for no plug-in; its options are None, and `known` is not
    called for it. `example` is an override that chooses one. UserError for an unknown plug-in or option.
    """
    if not isinstance(value, Mapping):
        raise UserError(f"{where} must be a mapping; found {value!r}: choose a {noun}, as in {example}")
    options = dict(value)
    name = str(options.pop("name", default))
    if name == none:
        if options:
            raise UserError(f"{where}.{min(options)} would be ignored: choose a {noun}, as in {example}")
        return name, None
    plugins = known()
    if name not in plugins:
        raise UserError(f"{where}.name={name} is not a known {noun}{did_you_mean(name, plugins)}")
    return name, build(plugins[name].Config, options, where)
