"""The techniques of detection: their options, and the keys of a row's figures of what each gives."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PREFIX = "technique_"


@dataclass(frozen=True)
class Technique:
    """Options of `benchmark.detection` in place of the published setting, and the figure that they should raise."""

    options: dict[str, str | int]
    figure: str = "auc"  # or f1


TECHNIQUES = {  # in the order of the table
    "threshold by F1": Technique({"threshold": "f1"}, "f1"),
    "heads by mutual information": Technique({"heads": "mutual_information"}),
    "heads at random": Technique({"heads": "random"}),
    "fixed heads": Technique({"heads": "fixed"}),
    "grid search": Technique({"search": "grid"}),
    "ensemble of five": Technique({"ensemble": 5}),
    "grid search and ensemble": Technique({"search": "grid", "ensemble": 5}),
}


def technique_key(name: str) -> str:
    """Return the key of the factor that a technique gives; its bounds have the suffixes `_low` and `_high`."""
    return f"{_PREFIX}{re.sub(r'[^a-z0-9]+', '_', name.lower())}_{TECHNIQUES[name].figure}_ratio"
