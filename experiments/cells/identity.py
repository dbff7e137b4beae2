"""Decide which records belong to the same cell, across versions of this program that added options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.config.validate import identity_of
from runtime_matrix.experiments.judges.registry import NO_JUDGE
from runtime_matrix.experiments.records.schema import NO_STRATEGY, Record

_ABSENT = object()
_NAMED = {"strategy": NO_STRATEGY, "judge": NO_JUDGE}  # groups whose options depend on the chosen one, and none
_FOLLOWS = {"batch": "batch_size", "window": "model.max_tokens"}  # options of benchmarks, and what changes them
_MOST_SHOWN = 4  # options


def cell_names(records: Sequence[Record]) -> list[str]:
    """Return a name for each record's cell: the configuration hash of its first record among these.

    Two records belong to the same cell if their hashes match, or if they differ only in options unknown to one
    program version.
    """
    names: dict[tuple[str, ...], str] = {}  # by exact key and hash
    latest: dict[tuple[str, ...], dict[str, JsonObject]] = {}  # by exact key: name → configuration
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
    """Return the options that distinguish each record's cell from others of its runtime and model; None without others.

    `names` are those that `cell_names` returns for the records.
    """
    alike: dict[tuple[str, str], dict[str, JsonObject]] = {}  # by runtime and model: cell → its options
    for record, name in zip(records, names, strict=True):
        key = (record.runtime.name, record.model.digest)
        alike.setdefault(key, {})[name] = _measured(record)
    differences = {key: _differences(cells) for key, cells in alike.items()}
    return [
        differences[record.runtime.name, record.model.digest].get(name)
        for record, name in zip(records, names, strict=True)
    ]


def _differences(cells: Mapping[str, JsonObject]) -> dict[str, str]:
    """Return the options in which each cell differs from another, as one text; empty for a single cell."""
    if len(cells) < 2:
        return {}
    chosen = {
        name: [key for key, options in (config.get("benchmark") or {}).items() if options]
        for name, config in cells.items()
    }
    shared = set.intersection(*map(set, chosen.values()))
    comparable = {name: _comparable(config, shared) for name, config in cells.items()}
    texts = {}
    for name, options in comparable.items():
        keys = [key for key in options if any(_differ(key, options, other) for other in comparable.values())]
        words = [f"{key.removeprefix('benchmark.')}={_shown(options[key])}" for key in keys if options[key] is not None]
        if any(set(benchmarks) != shared for benchmarks in chosen.values()):
            words.insert(0, f"benchmark=[{','.join(chosen[name])}]")
        more = f" and {len(words) - _MOST_SHOWN} more" if len(words) > _MOST_SHOWN else ""
        unset = f"{keys[0].removeprefix('benchmark.')}=null" if keys else name[:6]
        texts[name] = ", ".join(words[:_MOST_SHOWN]) + more or unset
    return texts


def _comparable(config: JsonObject, benchmarks: Set[str]) -> JsonObject:
    """Return the options that distinguish cells, flattened; of the hardware, only name and threads."""
    hw, chosen = config.get("hw") or {}, config.get("benchmark") or {}
    apart = ("hw", "benchmark", "reference", *_NAMED)
    parts = {key: value for key, value in config.items() if key not in apart}
    parts["hw"] = {key: hw[key] for key in ("name", "threads") if key in hw}
    for group, none in _NAMED.items():
        own = dict(config.get(group) or {})
        parts[group] = name = own.pop("name", none)
        parts |= {f"{group}.{name}.{key}": value for key, value in own.items()}
    return _flat({**parts, "benchmark": {key: value for key, value in chosen.items() if key in benchmarks}})


def _differ(key: str, options: JsonObject, other: JsonObject) -> bool:
    """Return whether a cell has another value; options of a strategy differ from those of the same strategy only.

    So do those of a judge. Batches of benchmarks that follow from another `batch_size` do not differ, nor windows that
    follow from another limit.
    """
    group, _, option = key.rpartition(".")
    cause = _FOLLOWS.get(option) if group.startswith("benchmark.") else None
    if cause is not None and other.get(cause) != options.get(cause):
        return False
    absent = options[key] if key.partition(".")[0] in _NAMED and "." in key else _ABSENT
    return bool(other.get(key, absent) != options[key])


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "")


def _exact(record: Record) -> tuple[str, ...]:
    """Return what must be equal in all versions of the program.

    It names the chosen benchmarks, because records of different benchmarks may have all common options equal.
    """
    chosen = record.config.get("benchmark") or {}
    versions = record.benchmark_versions  # records without versions are of version 1
    return (
        record.runtime.name,
        record.runtime.dtype,
        record.model.digest,
        record.hw.name,
        str(record.hw.threads),
        record.strategy,
        _judge(record),
        ",".join(sorted(f"{name} {versions.get(name, 1)}" for name, options in chosen.items() if options is not None)),
    )


def _judge(record: Record) -> str:
    judge = record.config.get("judge")
    return str(judge.get("name", NO_JUDGE)) if isinstance(judge, dict) else NO_JUDGE


def _measured(record: Record) -> JsonObject:
    return identity_of(CellConfig, record.config)


def _is_later_version(config: JsonObject, other: JsonObject) -> bool:
    first, second = _flat(config), _flat(other)
    common = first.keys() & second.keys()
    return first.keys() != second.keys() and all(first[key] == second[key] for key in common)


def _flat(config: JsonObject, prefix: str = "") -> JsonObject:
    """Return the options of a nested configuration under dotted keys."""
    options: JsonObject = {}
    for key, value in config.items():
        options |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return options
