"""Fit a detector on scores: choose heads and layers, the ranges of their sums, the weights and the threshold.

The score of a chunk is m · scaled sum of the top layers' parametric knowledge − alpha · scaled sum of the top heads'
external context; "scaled" by min–max over the chunks that fitted it. The score of a response is the mean of its
chunks' (Sun et al. 2024, arXiv 2410.11414).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from runtime_matrix.experiments.detector import grid
from runtime_matrix.experiments.detector.errors import DetectionError
from runtime_matrix.experiments.detector.measures import DIGITS, best_f1_threshold
from runtime_matrix.experiments.detector.scores import Bools, Floats, Ints, Scores, check_both_classes
from runtime_matrix.experiments.detector.selection import ranked_heads, ranked_layers
from runtime_matrix.experiments.detector.setting import Setting


@dataclass(frozen=True)
class _ScaledSum:
    """The sum of some columns, scaled so that it was 0 to 1 over the chunks that fitted it."""

    columns: tuple[int, ...]
    low: float
    high: float

    @staticmethod
    def of(columns: Ints, values_NC: Floats) -> _ScaledSum:
        """Return the sum with the range that it has over these chunks."""
        sums_N = values_NC[:, columns].sum(axis=1)
        return _ScaledSum(tuple(columns.tolist()), float(sums_N.min()), float(sums_N.max()))

    def apply(self, values_NC: Floats) -> Floats:
        """Return the scaled sums; 0 if the sum was constant."""
        if self.high <= self.low:
            return np.zeros(len(values_NC))
        scaled_N: Floats = (values_NC[:, list(self.columns)].sum(axis=1) - self.low) / (self.high - self.low)
        return scaled_N


@dataclass(frozen=True)
class Detector:
    """A fitted detector. Responses whose score reaches the threshold are judged unsupported."""

    heads: tuple[str, ...]  # of all members, in the order of their rank
    layers: tuple[str, ...]
    alpha: float
    m: float
    threshold: float  # in the units of the responses' scores
    scaled_threshold: float  # 0 to 1 within the range of the responses that fitted it
    notes: tuple[str, ...]  # what was asked for and could not be had
    names: tuple[tuple[str, ...], tuple[str, ...]]  # heads and layers of the scores that it was fitted on
    context: tuple[_ScaledSum, ...]  # one for each member of the ensemble
    knowledge: _ScaledSum

    def chunk_scores(self, scores: Scores) -> Floats:
        """Return the score of each chunk (N). DetectionError for scores of other heads or layers."""
        if (scores.heads, scores.layers) != self.names:
            raise DetectionError("the scores have other heads or layers than those that fitted the detector")
        context_N = np.mean([part.apply(scores.external_context_NH) for part in self.context], axis=0)
        knowledge_N = self.knowledge.apply(scores.parametric_knowledge_NL)
        scores_N: Floats = np.round(self.m * knowledge_N - self.alpha * context_N, DIGITS)
        return scores_N

    def response_scores(self, scores: Scores) -> Floats:
        """Return the mean score of each response's chunks (R)."""
        scores_R: Floats = np.round(scores.response_means(self.chunk_scores(scores)), DIGITS)
        return scores_R

    def predictions(self, scores: Scores) -> Bools:
        """Return which responses are judged unsupported (R)."""
        return self.response_scores(scores) >= self.threshold


def fit(scores: Scores, setting: Setting) -> Detector:
    """Return the detector of a setting. DetectionError for labels of one class or an unknown head."""
    check_both_classes(scores)
    ranked, layers = ranked_heads(scores, setting), ranked_layers(scores)
    notes = _notes(setting, len(scores.heads), len(scores.layers))
    if setting.heads == "fixed":
        setting = replace(setting, top_heads=len(ranked[0]))
    if setting.search == "grid":
        setting = _searched(scores, setting, ranked, layers)
    context = tuple(_ScaledSum.of(heads[: setting.top_heads], scores.external_context_NH) for heads in ranked)
    knowledge = _ScaledSum.of(layers[: setting.top_layers], scores.parametric_knowledge_NL)
    for kind, parts in (("heads", context), ("layers", (knowledge,))):
        if all(part.high <= part.low for part in parts):
            notes.append(f"the sum of the chosen {kind} is the same in all chunks and adds nothing")
    detector = Detector(
        heads=tuple(scores.heads[head] for head in dict.fromkeys(head for part in context for head in part.columns)),
        layers=tuple(scores.layers[layer] for layer in knowledge.columns),
        alpha=setting.alpha,
        m=setting.m,
        threshold=0.0,
        scaled_threshold=0.5,
        notes=tuple(notes),
        names=(scores.heads, scores.layers),
        context=context,
        knowledge=knowledge,
    )
    return _with_threshold(detector, scores, setting)


def _with_threshold(detector: Detector, scores: Scores, setting: Setting) -> Detector:
    scores_R = detector.response_scores(scores)
    low, high = float(scores_R.min()), float(scores_R.max())
    if setting.threshold == "0.5":
        return replace(detector, threshold=(low + high) / 2)
    threshold = best_f1_threshold(scores.is_unsupported_R, scores_R)
    return replace(detector, threshold=threshold, scaled_threshold=(threshold - low) / ((high - low) or 1.0))


def _searched(scores: Scores, setting: Setting, ranked: Sequence[Ints], layers: Ints) -> Setting:
    """Return the setting with the numbers of heads and layers and the weights that are best on these scores."""

    def means(columns: Ints, values_NC: Floats) -> Floats:
        return scores.response_means(_ScaledSum.of(columns, values_NC).apply(values_NC))

    head_counts = [setting.top_heads] if setting.heads == "fixed" else _counts(min(map(len, ranked)))
    context_RT = np.stack(
        [
            np.mean([means(heads[:count], scores.external_context_NH) for heads in ranked], axis=0)
            for count in head_counts
        ],
        axis=1,
    )
    layer_counts = _counts(len(layers))
    knowledge_RT = np.stack([means(layers[:count], scores.parametric_knowledge_NL) for count in layer_counts], axis=1)
    point = grid.best_point(scores.is_unsupported_R, context_RT, knowledge_RT)
    return replace(
        setting,
        top_heads=head_counts[point.top_heads - 1],
        top_layers=layer_counts[point.top_layers - 1],
        alpha=point.alpha,
        m=point.m,
    )


def _counts(available: int) -> list[int]:
    return [count for count in grid.TOP if count <= available]


def _notes(setting: Setting, heads: int, layers: int) -> list[str]:
    """Return a line for more heads or layers than there are."""
    wanted_heads, wanted_layers = setting.top_heads, setting.top_layers
    if setting.search == "grid":
        wanted_heads = wanted_layers = max(grid.TOP)
    notes = []
    for kind, wanted, found in (("head", wanted_heads, heads), ("layer", wanted_layers, layers)):
        if wanted > found and not (kind == "head" and setting.heads == "fixed"):
            used = f"the only {kind} is used" if found == 1 else f"all {found} are used"
            notes.append(f"{'up to ' * (setting.search == 'grid')}{wanted} {kind}s were asked for: {used}")
    return notes
