"""What each technique gains over the published setting, in-sample and held out, on the same responses and halves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from runtime_matrix.experiments.detector.bootstrap import Bootstrap, interval_of
from runtime_matrix.experiments.detector.cross_fitting import Judged, halves, judged, replicates
from runtime_matrix.experiments.detector.scores import Floats, Scores
from runtime_matrix.experiments.detector.setting import PUBLISHED, Setting
from runtime_matrix.experiments.statistics.interval import Interval

_MEMBERS = 5


@dataclass(frozen=True)
class Technique:
    """One change of the published setting, the figure that it is to improve, and the id of its claim if it has one."""

    name: str
    setting: Setting
    figure: Literal["auc", "f1"] = "auc"
    claim: str | None = None


@dataclass(frozen=True)
class Gain:
    """The figure of one setting and its gain over the published setting; None where undefined."""

    in_sample: Interval | None
    held_out: Interval | None
    in_sample_difference: Interval | None
    difference: Interval | None  # held out
    ratio: Interval | None  # held out: this setting's figure / the published setting's


def techniques(heads: Sequence[str], seed: int) -> tuple[Technique, ...]:
    """Return the techniques for scores of these heads."""
    base = replace(PUBLISHED, seed=seed)
    every = replace(base, heads="fixed", fixed_heads=tuple(heads))
    information = replace(base, heads="mutual_information")
    together = replace(information, search="grid", ensemble=_MEMBERS, threshold="f1")
    return (
        Technique("random heads", replace(base, heads="random")),
        Technique("all heads", every),
        Technique("heads by mutual information", information, claim="mutual-information"),
        Technique("grid search", replace(base, search="grid"), claim="grid-search"),
        Technique(f"ensemble of {_MEMBERS}", replace(base, ensemble=_MEMBERS), claim="detector-ensemble"),
        Technique("all of them together", together, claim="detection-auc"),
        Technique("threshold by F1", replace(base, threshold="f1"), "f1", "threshold"),
        Technique("all of them together", together, "f1"),
    )


def gains(
    scores: Scores, chosen: Sequence[Technique], seed: int, splits: int = 1
) -> tuple[dict[str, Gain], list[Gain]]:
    """Return the published setting's figures (AUC, F1) and the gain of each technique, in their order.

    DetectionError as of `cross_fitted`.
    """
    bootstrap = Bootstrap(scores.sources, seed)
    folds = [halves(scores, seed + split) for split in range(splits)]
    whole = np.zeros(len(scores.responses), dtype=np.int64)
    known: dict[Setting, tuple[list[Judged], list[Judged]]] = {}

    def figures(setting: Setting, figure: str) -> tuple[Floats, Floats]:
        if setting not in known:
            known[setting] = [judged(scores, setting, whole)], [judged(scores, setting, fold_R) for fold_R in folds]
        in_sample, held_out = (replicates(bootstrap, scores, splits, figure) for splits in known[setting])
        return in_sample, held_out

    base = {figure: figures(PUBLISHED, figure) for figure in ("auc", "f1")}
    published = {figure: _gain(values, values) for figure, values in base.items()}
    return published, [_gain(figures(one.setting, one.figure), base[one.figure]) for one in chosen]


def _gain(values: tuple[Floats, Floats], base: tuple[Floats, Floats]) -> Gain:
    (in_sample, held_out), (base_in_sample, base_held_out) = values, base
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = held_out / base_held_out
    return Gain(
        interval_of(in_sample),
        interval_of(held_out),
        interval_of(in_sample - base_in_sample),
        interval_of(held_out - base_held_out),
        interval_of(ratio),
    )
