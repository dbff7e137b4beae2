"""The matrix as a SQLite file: cells, figures and all raw samples, for queries beyond the table."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.journal import plain
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import Record

Value = str | float | bool | None
_KINDS: dict[type, str] = {bool: "INTEGER", int: "INTEGER", float: "REAL", str: "TEXT"}


def write_sqlite(rows: Sequence[Row], results: Sequence[Result], path: Path) -> None:
    """Write the tables `cells` (one row per cell), `samples` and `figures`; an earlier file is replaced.

    OSError if the file cannot be written.
    """
    record_ids = {row.record_id for row in rows}
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
    try:
        connection = sqlite3.connect(temporary)
        try:
            records = [result.record for result in results if result.record.record_id in record_ids]
            _fill(connection, [row.flat() for row in rows], records)
        finally:
            connection.close()
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _fill(connection: sqlite3.Connection, cells: Sequence[Mapping[str, Value]], records: Sequence[Record]) -> None:
    names = list(cells[0])
    columns = ", ".join(f'"{name}" {_kind([cell[name] for cell in cells])}' for name in names)
    connection.execute(f"CREATE TABLE cells ({columns}, PRIMARY KEY (record_id))")
    placeholders = ", ".join("?" * len(names))
    connection.executemany(
        f"INSERT INTO cells VALUES ({placeholders})", [[_value(cell[name]) for name in names] for cell in cells]
    )
    connection.execute("CREATE TABLE samples (record_id TEXT, benchmark TEXT, sample TEXT, number INTEGER, value REAL)")
    connection.executemany(
        "INSERT INTO samples VALUES (?, ?, ?, ?, ?)", (tuple(map(_value, values)) for values in _samples(records))
    )
    connection.execute("CREATE TABLE figures (record_id TEXT, benchmark TEXT, figure TEXT, value)")
    connection.executemany(
        "INSERT INTO figures VALUES (?, ?, ?, ?)", (tuple(map(_value, values)) for values in _figures(records))
    )
    connection.execute("CREATE INDEX samples_of_a_cell ON samples (record_id, sample)")
    connection.commit()


def _value(value: object) -> Value:
    """Convert a value for SQLite: integers beyond 64 bits to floats, lists and mappings to JSON."""
    if value is None or isinstance(value, str | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else float(value)
    return json.dumps(plain(value))


def _kind(values: Sequence[Value]) -> str:
    kinds = {_KINDS.get(type(value), "") for value in values if value is not None}
    return "REAL" if kinds == {"REAL", "INTEGER"} else (kinds.pop() if len(kinds) == 1 else "")


def _samples(records: Sequence[Record]) -> Iterator[tuple[str, str, str, int, float]]:
    for record in records:
        for entry in record.benchmarks:
            for name, values in entry.samples.items():
                yield from ((record.record_id, entry.benchmark, name, n, value) for n, value in enumerate(values))


def _figures(records: Sequence[Record]) -> Iterator[tuple[str, str, str, Value]]:
    for record in records:
        for entry in record.benchmarks:
            for name, value in entry.figures.items():
                if value is None or isinstance(value, int | float | str):
                    yield record.record_id, entry.benchmark, name, value
