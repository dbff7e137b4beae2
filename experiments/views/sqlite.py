"""The matrix as a SQLite file, for questions that no table answers: cells, and every raw sample of them."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.records.journal import plain
from runtime_matrix.experiments.views.columns import Row

_KINDS: dict[type, str] = {bool: "INTEGER", int: "INTEGER", float: "REAL", str: "TEXT"}


def write_sqlite(found: Sequence[Row], records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the tables `cells` (a row of the matrix each), `samples` and `figures`; an earlier file is replaced.

    OSError where the file cannot be written.
    """
    kept = {row["record_id"] for row in found}
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
    try:
        connection = sqlite3.connect(temporary)
        try:
            _fill(connection, found, [record for record in records if record["record_id"] in kept])
        finally:
            connection.close()
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _fill(connection: sqlite3.Connection, found: Sequence[Row], records: Sequence[dict[str, Any]]) -> None:
    names = list(found[0])
    parts = ", ".join(f'"{name}" {_kind(name, found)}' for name in names)
    connection.execute(f"CREATE TABLE cells ({parts}, PRIMARY KEY (record_id))")
    holes = ", ".join("?" * len(names))
    connection.executemany(
        f"INSERT INTO cells VALUES ({holes})", [[_value(row[name]) for name in names] for row in found]
    )
    connection.execute("CREATE TABLE samples (record_id TEXT, benchmark TEXT, sample TEXT, number INTEGER, value REAL)")
    connection.executemany(
        "INSERT INTO samples VALUES (?, ?, ?, ?, ?)", (tuple(map(_value, one)) for one in _samples(records))
    )
    connection.execute("CREATE TABLE figures (record_id TEXT, benchmark TEXT, figure TEXT, value)")
    connection.executemany(
        "INSERT INTO figures VALUES (?, ?, ?, ?)", (tuple(map(_value, one)) for one in _figures(records))
    )
    connection.execute("CREATE INDEX samples_of_a_cell ON samples (record_id, sample)")
    connection.commit()


def _value(value: Any) -> Any:
    """Return what SQLite can hold: integers of 64 bits, and no lists or mappings but their text."""
    if value is None or isinstance(value, str | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else float(value)
    return json.dumps(plain(value))


def _kind(name: str, found: Sequence[Row]) -> str:
    kinds = {_KINDS.get(type(row[name]), "") for row in found if row[name] is not None}
    return "REAL" if kinds == {"REAL", "INTEGER"} else (kinds.pop() if len(kinds) == 1 else "")


def _samples(records: Sequence[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    for record in records:
        for entry in record["benchmarks"]:
            for name, values in entry["samples"].items():
                yield from ((record["record_id"], entry["benchmark"], name, n, value) for n, value in enumerate(values))


def _figures(records: Sequence[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    for record in records:
        for entry in record["benchmarks"]:
            for name, value in entry["figures"].items():
                if value is None or isinstance(value, int | float | str):
                    yield record["record_id"], entry["benchmark"], name, value
