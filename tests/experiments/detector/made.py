"""Scores of invented responses, and the published formula written again with scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import MinMaxScaler

from runtime_matrix.experiments.detector.scores import Floats, Scores
from runtime_matrix.experiments.detector.stored import head_name, layer_name


def made(
    responses: int = 60,
    heads: int = 12,
    layers: int = 6,
    seed: int = 0,
    signal: float = 1.0,
    per_source: int = 1,
    is_rounded: bool = False,
) -> Scores:
    """Return scores of which the first heads and layers know the label, less and less; ties if rounded."""
    generator = np.random.default_rng(seed)
    response_N = np.repeat(np.arange(responses), generator.integers(1, 5, size=responses))
    is_unsupported_N = (generator.random(len(response_N)) < 0.5) & (response_N % 2 == 0)
    is_unsupported_N[np.unique(response_N, return_index=True)[1][::2]] = True  # so that half of the responses are

    def values(columns: int, sign: float) -> Floats:
        strength = signal * sign / np.arange(1, columns + 1)
        noise = generator.normal(size=(len(response_N), columns))
        rounded: Floats = np.round(strength * is_unsupported_N[:, None] + noise, 1 if is_rounded else 12)
        return rounded

    return Scores(
        external_context_NH=values(heads, -1),
        parametric_knowledge_NL=values(layers, 1),
        is_unsupported_N=is_unsupported_N,
        response_N=response_N,
        responses=tuple(f"r{index}" for index in range(responses)),
        sources=tuple(f"s{index // per_source}" for index in range(responses)),
        heads=tuple(head_name(index // 2, index % 2) for index in range(heads)),
        layers=tuple(layer_name(index) for index in range(layers)),
        baselines={"length": generator.normal(size=responses)},
    )


def published_scores(
    scores: Scores, top_heads: int = 3, top_layers: int = 4, alpha: float = 0.6, m: float = 1.0
) -> tuple[Floats, Floats]:
    """Return the scores of chunks and responses by the published formula, fitted and applied in-sample."""
    label_N = scores.is_unsupported_N.astype(int)
    sums = []
    for values_NC, label, top in (
        (scores.external_context_NH, 1 - label_N, top_heads),
        (scores.parametric_knowledge_NL, label_N, top_layers),
    ):
        ranked = sorted(range(values_NC.shape[1]), key=lambda column: -roc_auc_score(label, values_NC[:, column]))
        total = sum(values_NC[:, column] for column in ranked[:top])
        sums.append(MinMaxScaler().fit_transform(np.asarray(total).reshape(-1, 1)).ravel())
    chunk_N = np.round(m * sums[1] - alpha * sums[0], 12)
    count = len(scores.responses)
    means = [chunk_N[scores.response_N == response].mean() for response in range(count)]
    return chunk_N, np.round(np.array(means), 12)
