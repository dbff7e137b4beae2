"""The keys of a row's figures of the techniques of detection: the factor that each gives on held-out responses."""

from __future__ import annotations

import re

_PREFIX = "technique_"


def technique_key(name: str, figure: str) -> str:
    """Return the key of the factor of a figure (auc or f1); its bounds have the suffixes `_low` and `_high`."""
    return f"{_PREFIX}{re.sub(r'[^a-z0-9]+', '_', name.lower())}_{figure}_ratio"
