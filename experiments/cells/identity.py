"""Which records are of the same cell, over versions of this program: a later one may have brought options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import identity_of
from runtime_matrix.experiments.records.schema import Record

_ABSENT = object()
_MOST_TOLD = 4  # options


def cell_names(records: Sequence[Record]) -> list[str]:
    """Return a name for each record's cell: the configuration hash of its first record among these.

    Records are of one cell where their hashes are equal, or where one has options that the other's version did not
    know, and all that both know are equal.
    """
    names: dict[tuple[str, ...], str] = {}  # by what is compared exactly, and the hash
    latest: dict[tuple[str, ...], dict[str, JsonObject]] = {}  # by what is compared exactly: name → configuration
    cells = []
    for record in records:
        exact, config = _exact(record), _measured(record)
        known, key = latest.setdefault(exact, {}), (*exact, record.config_hash)
        if key not in names:
            same = (name for name, other in reversed(known.items()) if _is_later_version(config, other))
            names[key] = next(same, record.config_hash)
        known[names[key]] = config
        cells.append(names[key])
    return cells


def variants(records: Sequence[Record], names: Sequence[str]) -> list[str | None]:
    """Return what tells each record's cell from others of the same runtime and model; None where nothing has to.

    `names` are the cells', as from `cell_names`.
    """
    alike: dict[tuple[str, str], dict[str, JsonObject]] = {}  # by runtime and model: cell → its options
    for record, name in zip(records, names, strict=True):
        key = (record.runtime.name, record.model.digest)
        alike.setdefault(key, {})[name] = _measured(record)
    told = {key: _told(cells) for key, cells in alike.items()}
    return [
        told[record.runtime.name, record.model.digest].get(name) for record, name in zip(records, names, strict=True)
    ]


def _told(cells: Mapping[str, JsonObject]) -> dict[str, str]:
    """Return the options of each cell in which it differs from another; empty for a single cell."""
    if len(cells) < 2:
        return {}
    chosen = {
        name: [key for key, asked in (one.get("benchmark") or {}).items() if asked] for name, one in cells.items()
    }
    shared = set.intersection(*map(set, chosen.values()))
    options = {name: _comparable(one, shared) for name, one in cells.items()}
    told = {}
    for name, mine in options.items():
        keys = [key for key in mine if any(other.get(key, _ABSENT) != mine[key] for other in options.values())]
        words = [f"{key.removeprefix('benchmark.')}={_shown(mine[key])}" for key in keys if mine[key] is not None]
        if any(set(one) != shared for one in chosen.values()):
            words.insert(0, f"benchmark=[{','.join(chosen[name])}]")
        more = f" and {len(words) - _MOST_TOLD} more" if len(words) > _MOST_TOLD else ""
        told[name] = ", ".join(words[:_MOST_TOLD]) + more or name[:6]
    return told


def _comparable(config: JsonObject, benchmarks: Set[str]) -> JsonObject:
    """Return the options that two cells may differ in: of the hardware its name and threads alone."""
    hw, asked = config.get("hw") or {}, config.get("benchmark") or {}
    kept = {key: value for key, value in config.items() if key not in ("hw", "benchmark", "reference")}
    kept["hw"] = {key: hw[key] for key in ("name", "threads") if key in hw}
    return _options({**kept, "benchmark": {key: value for key, value in asked.items() if key in benchmarks}})


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "")


def _exact(record: Record) -> tuple[str, ...]:
    """Return what must be equal whatever a version knows; the chosen benchmarks have no keys in common to differ in."""
    chosen = record.config.get("benchmark") or {}
    versions = record.benchmark_versions  # of records that know none, all are the first
    return (
        record.runtime.name,
        record.runtime.dtype,
        record.model.digest,
        record.hw.name,
        str(record.hw.threads),
        ",".join(sorted(f"{name} {versions.get(name, 1)}" for name, asked in chosen.items() if asked is not None)),
    )


def _measured(record: Record) -> JsonObject:
    return identity_of(CellConfig, record.config)


def _is_later_version(config: JsonObject, other: JsonObject) -> bool:
    one, two = _options(config), _options(other)
    common = one.keys() & two.keys()
    return one.keys() != two.keys() and all(one[key] == two[key] for key in common)


def _options(config: JsonObject, prefix: str = "") -> JsonObject:
    found: JsonObject = {}
    for key, value in config.items():
        found |= _options(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
