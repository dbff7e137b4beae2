"""The type of JSON objects whose keys are not fixed."""

from __future__ import annotations

from typing import Any

JsonObject = dict[str, Any]  # keys unknown to the reader: a configuration, another program's file
