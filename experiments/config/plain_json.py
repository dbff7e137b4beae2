"""JSON objects whose keys are not fixed: their type, and keys of YAML as those of JSON."""

from __future__ import annotations

from typing import Any

JsonObject = dict[str, Any]  # keys unknown to the reader: a configuration, another program's file


def text_keys(value: Any) -> Any:
    """Return the value with texts for the keys of its mappings, as JSON has them: YAML has numbers too."""
    if isinstance(value, dict):
        return {str(key): text_keys(element) for key, element in value.items()}
    return [text_keys(element) for element in value] if isinstance(value, list) else value
