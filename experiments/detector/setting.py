"""How a detector is fitted: which heads and layers, their weights, and where the threshold lies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from runtime_matrix.experiments.config.errors import did_you_mean
from runtime_matrix.experiments.detector.errors import DetectionError

HeadSelection = Literal["auc", "mutual_information", "random", "fixed"]
Search = Literal["none", "grid"]
ThresholdRule = Literal["0.5", "f1"]
_MOST_MEMBERS = 1000


@dataclass(frozen=True)
class Setting:
    """The options of a detector; the defaults are those of Sun et al. 2024. DetectionError for a bad value."""

    heads: HeadSelection = "auc"
    fixed_heads: tuple[str, ...] = ()  # for heads="fixed"
    top_heads: int = 3
    top_layers: int = 4
    alpha: float = 0.6  # weight of the external context
    m: float = 1.0  # weight of the parametric knowledge
    search: Search = "none"  # grid: the numbers of heads and layers, alpha and m are chosen by the AUC of responses
    ensemble: int = 1  # selections of heads, each from a random half of the heads
    threshold: ThresholdRule = "0.5"  # of the range of the responses' scores, or where F1 is best
    seed: int = 0  # of random heads and of ensembles

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise DetectionError(problem)


def _problems(setting: Setting) -> Iterator[str]:
    for name, kind in (("heads", HeadSelection), ("search", Search), ("threshold", ThresholdRule)):
        value = getattr(setting, name)
        if value not in get_args(kind):
            yield f"{name}={value} is unknown{did_you_mean(str(value), get_args(kind))}"
    for name in ("top_heads", "top_layers", "ensemble"):
        if getattr(setting, name) < 1:
            yield f"{name} must be at least 1; found {getattr(setting, name)}"
    if setting.ensemble > _MOST_MEMBERS:
        yield f"ensemble must be at most {_MOST_MEMBERS}; found {setting.ensemble}"
    for name in ("alpha", "m"):
        value = getattr(setting, name)
        if not (math.isfinite(value) and value >= 0):
            yield f"{name} must be a number of at least 0; found {value}"
    if setting.seed < 0:
        yield f"seed must be at least 0; found {setting.seed}"
    if (setting.heads == "fixed") != bool(setting.fixed_heads):
        yield "heads=fixed needs the names of heads (fixed_heads), and other selections take none"
    if setting.heads == "fixed" and setting.ensemble > 1:
        yield "an ensemble needs heads to choose from: heads=fixed chooses none"


PUBLISHED = Setting()
