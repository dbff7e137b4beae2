"""The JSON Schema of the matrix as JSON, made from the columns; `matrix.schema.json` beside this file is its text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.views.columns import COLUMNS

SCHEMA = Path(__file__).with_name("matrix.schema.json")

_IDENTITY = {
    "run_id": "The sweep.",
    "record_id": "The folder below results_dir.",
    "engine": "How it is executed.",
    "weights": "How weights are held.",
    "placement": "Where layers lie.",
    "model_title": "What the model is: kind, parameters, name.",
    "model_digest": "Of the model's files.",
    "started_at": "UTC, ISO 8601.",
    "machine": "Digest of host, processor, instruction sets, cores, memory, limits and profile.",
    "config_hash": "Of what the cell measures: the same over commits and dates.",
    "command": "Measures this cell again.",
    **{column.key: column.about for column in COLUMNS if column.group == "cell" and column.key != "variant"},
}
_MAYBE_TEXT = {
    "reason": "Why the status is not ok.",
    "processor": "As the machine calls it.",
    "dtype_note": "Where products in the dtype are emulated: at which rate.",
    "peak_note": "How to read the shares of the hardware peak, where they are above 100 % or it was under load.",
    "sandbox_note": "What the machine did not keep generated programs from.",
    "cache_note": "What was wrong with kept answers or verdicts.",
    "machine_description": "Processor, cores, widest vectors and what limits them.",
    "commit": "Of this program.",
    "speedup_reason": "Why there is no speedup.",
    "cpu_speedup_reason": "Why CPU time does not stand for the cell's speed.",
    "speed_note": "Why wall time and CPU time disagree beyond both intervals.",
    "latency_source": "interleaved: times of launches in which cells took turns; alone: of the cell by itself.",
    "price_source": "interleaved: from the rate of the interleaved batches; alone: of the offline benchmark.",
    "start_kind": next(column.about for column in COLUMNS if column.key == "start_kind"),
    "against": "The record that answers were compared with.",
    "variant": next(column.about for column in COLUMNS if column.key == "variant"),
    "energy_reason": "Why no energy is known.",
}


def row_keys() -> list[str]:
    """Return the keys that the schema names."""
    return list(make_schema()["items"]["properties"])


def make_schema() -> dict[str, Any]:
    """Return the schema: an array of rows, null for what is unknown."""
    about = {column.key: f"{column.title}: {column.about}" for column in COLUMNS if column.is_number}
    rows = {
        **{key: {"type": "string", "description": text} for key, text in _IDENTITY.items()},
        **{key: {"type": ["string", "null"], "description": text} for key, text in _MAYBE_TEXT.items()},
        "threads": {"type": "integer", "description": "Given to every runtime alike."},
        "is_reference": {"type": "boolean", "description": "What others are compared with."},
        **{key: {"type": ["number", "null"], "description": text} for key, text in about.items()},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Runtime Matrix: rows of `python -m experiments.report --format json`",
        "description": "Units are in the keys: _s, _bytes, _ratio (1 is the same). Keys may be added.",
        "type": "array",
        "items": {
            "type": "object",
            "required": sorted(rows),
            "properties": rows,
            "additionalProperties": {"type": ["number", "null"]},
        },
    }


def schema_text() -> str:
    return json.dumps(make_schema(), indent=1, ensure_ascii=False) + "\n"
