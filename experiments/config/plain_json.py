"""The type of open JSON."""

from __future__ import annotations

from typing import Any

JsonObject = dict[str, Any]  # whose keys the reading module does not know: a configuration, another program's file
