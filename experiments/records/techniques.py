"""The names of the techniques of detection in a record, and the keys of the factors that they give in a row."""

from __future__ import annotations

import re

_PREFIX, _SUFFIX = "technique_", "_ratio"


def technique_label(name: str, figure: str) -> str:
    """Return the name in a record of what a technique gives, by the figure that it should raise: auc or f1."""
    return f"{name}, {figure.upper()}"


def technique_key(label: str) -> str:
    """Return the key of the factor on held-out responses; its bounds have the suffixes `_low` and `_high`."""
    return f"{_PREFIX}{re.sub(r'[^a-z0-9]+', '_', label.lower())}{_SUFFIX}"


def is_technique_key(key: str) -> bool:
    """Return whether a key may be that of a technique's factor; bounds are not."""
    return key.startswith(_PREFIX) and key.endswith(("_auc" + _SUFFIX, "_f1" + _SUFFIX))
