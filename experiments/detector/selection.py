"""Which heads and layers a detector uses.

Of equal scores, the head or layer that the file names first is chosen. Random selections draw without replacement.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from runtime_matrix.experiments.detector.errors import DetectionError
from runtime_matrix.experiments.detector.measures import DIGITS, auc_of_columns
from runtime_matrix.experiments.detector.scores import Bools, Floats, Ints, Scores
from runtime_matrix.experiments.detector.setting import Setting

BINS = 10  # of mutual information


def ranked_layers(scores: Scores) -> Ints:
    """Return the layers from best to worst: by the AUC of their knowledge score against "unsupported", over chunks."""
    return _descending(auc_of_columns(scores.is_unsupported_N, scores.parametric_knowledge_NL))


def ranked_heads(scores: Scores, setting: Setting) -> list[Ints]:
    """Return the heads from best to worst, once for each member of the ensemble.

    By AUC: of the context score against "supported", over chunks. By mutual information: of the context score and the
    label, whatever its direction. A member chooses from a random half of the heads, and at least `top_heads` of them.
    """
    if setting.heads == "fixed":
        return [named_heads(scores.heads, setting.fixed_heads)]
    count = len(scores.heads)
    generators = [np.random.default_rng([setting.seed, member]) for member in range(setting.ensemble)]
    if setting.heads == "random":
        return [generator.permutation(count) for generator in generators]
    values_H = (
        auc_of_columns(~scores.is_unsupported_N, scores.external_context_NH)
        if setting.heads == "auc"
        else mutual_information(scores.is_unsupported_N, scores.external_context_NH)
    )
    ranked = _descending(values_H)
    if setting.ensemble == 1:
        return [ranked]
    half = min(count, max(setting.top_heads, math.ceil(count / 2)))
    subsets = [set(generator.permutation(count)[:half].tolist()) for generator in generators]
    return [np.array([head for head in ranked.tolist() if head in subset]) for subset in subsets]


def named_heads(heads: Sequence[str], names: Sequence[str]) -> Ints:
    """Return the indices of heads by name, each once; spaces do not matter. DetectionError for an unknown one."""
    indices = {_plain(head): index for index, head in enumerate(heads)}
    for name in names:
        if _plain(name) not in indices:
            raise DetectionError(f"there is no head {name}; there are {len(heads)}, from {heads[0]} to {heads[-1]}")
    return np.array(list(dict.fromkeys(indices[_plain(name)] for name in names)))


def mutual_information(is_positive_N: Bools, values_NC: Floats) -> Floats:
    """Return the mutual information (nats) of the label and each column, cut into 10 bins of equal counts.

    It is the plug-in estimate, which is too high by about (bins − 1) / 2N for all columns alike. Equal values share a
    bin, so a column of few distinct values has fewer bins.
    """
    return np.array([_information(is_positive_N, bins_of(values_N)) for values_N in values_NC.T])


def bins_of(values_N: Floats) -> Ints:
    """Return the bin of each value, from 0."""
    edges = np.unique(np.quantile(values_N, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.searchsorted(edges, values_N, side="left")


def _information(is_positive_N: Bools, bins_N: Ints) -> float:
    joint = np.bincount(2 * bins_N + is_positive_N, minlength=2 * BINS).reshape(-1, 2) / len(bins_N)
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / independent[seen])).sum())


def _descending(values: Floats) -> Ints:
    return np.argsort(-np.round(values, DIGITS), kind="stable")


def _plain(name: str) -> str:
    return re.sub(r"\s", "", name)
