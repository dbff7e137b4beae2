"""The published JSON Schemas of matrix rows and of a record. `make schema` writes them into this folder."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from runtime_matrix.experiments.analysis.columns import COLUMNS
from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.schema import Record

MATRIX_SCHEMA = Path(__file__).with_name("matrix.schema.json")
RECORD_SCHEMA = Path(__file__).with_name("record.schema.json")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def row_keys() -> list[str]:
    """Return the keys of a row of the matrix, as in its schema."""
    return list(_properties())


def matrix_schema() -> JsonObject:
    """Return the schema of the matrix: an array of rows; unknown values are null."""
    properties = _properties()
    return {
        "$schema": _DIALECT,
        "title": "Runtime Matrix: rows of `python -m experiments.report --format json`",
        "description": "Units are in the keys: _s, _bytes, _ratio (1 is the same). Keys may be added.",
        "type": "array",
        "items": {
            "type": "object",
            "required": sorted(properties),
            "properties": properties,
            "additionalProperties": {"type": ["number", "null"]},
        },
    }


def record_schema() -> JsonObject:
    """Return the schema of `record.json`."""
    return {"$schema": _DIALECT, "title": "Runtime Matrix: the record of a cell", **msgspec.json.schema(Record)}


def text_of(schema: JsonObject) -> str:
    """Return a schema as it is written to its file: indented, with a final newline."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _properties() -> dict[str, JsonObject]:
    """Return the properties of a flat row: the fields of `Row`, with one key per numeric column for `figures`."""
    _, definitions = msgspec.json.schema_components([Row])
    fields = {name: dict(field) for name, field in definitions["Row"]["properties"].items() if name != "figures"}
    for field in fields.values():
        field.pop("default", None)  # every key is present in a row
    figures = {
        column.key: {"type": ["number", "null"], "description": f"{column.title}: {column.about}"}
        for column in COLUMNS
        if column.is_number
    }
    return fields | figures


if __name__ == "__main__":
    MATRIX_SCHEMA.write_text(text_of(matrix_schema()), encoding="utf-8")
    RECORD_SCHEMA.write_text(text_of(record_schema()), encoding="utf-8")
