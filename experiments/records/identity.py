"""Which records are of the same cell, over versions of this program: a later one may have brought options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.config import CellConfig
from experiments.strict import identity_of


def cell_names(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a name for each record's cell: the configuration hash of its first record among these.

    Records are of one cell where their hashes are equal, or where one has options that the other's version did not
    know, and all that both know are equal.
    """
    names: dict[tuple[str, ...], str] = {}  # by what is compared exactly, and the hash
    latest: dict[
        tuple[str, ...], dict[str, Mapping[str, Any]]
    ] = {}  # by what is compared exactly: name → configuration
    found = []
    for record in records:
        exact, config = _exact(record), _measured(record)
        known, key = latest.setdefault(exact, {}), (*exact, record["config_hash"])
        if key not in names:
            same = (name for name, other in reversed(known.items()) if _is_later_version(config, other))
            names[key] = next(same, record["config_hash"])
        known[names[key]] = config
        found.append(names[key])
    return found


def _exact(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what must be equal whatever a version knows; the chosen benchmarks have no keys in common to differ in."""
    chosen = record["config"].get("benchmark") or {}
    return (
        record["runtime"]["name"],
        record["runtime"]["dtype"],
        str(record["model"]["digest"]),
        record["hw"]["name"],
        str(record["hw"]["threads"]),
        ",".join(sorted(name for name, asked in chosen.items() if asked is not None)),
    )


def _measured(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return identity_of(CellConfig, record["config"])


def _is_later_version(config: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    one, two = _options(config), _options(other)
    common = one.keys() & two.keys()
    return one.keys() != two.keys() and all(one[key] == two[key] for key in common)


def _options(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= _options(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found
