"""The scores of chunks of responses, from which a detector is fitted.

N chunks, R responses, H heads of all layers, L layers. External context and parametric knowledge: Sun et al. 2024,
arXiv 2410.11414.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from runtime_matrix.experiments.detector.errors import DetectionError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of N chunks of R responses. Raises DetectionError if they do not fit together or are not finite."""

    external_context_NH: Floats
    parametric_knowledge_NL: Floats
    is_unsupported_N: Bools
    response_N: Ints  # index into `responses`
    responses: tuple[str, ...]  # ids
    sources: tuple[str, ...]  # of each response; responses of one source are judged together
    heads: tuple[str, ...]  # such as "(3, 0)": layer, head
    layers: tuple[str, ...]
    baselines: Mapping[str, Floats] = field(default_factory=dict)  # by response; higher: more likely unsupported
    notes: tuple[str, ...] = ()  # what was left out of a file

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise DetectionError(problem)

    @property
    def is_unsupported_R(self) -> Bools:
        """Return which responses have an unsupported chunk."""
        return np.bincount(self.response_N, weights=self.is_unsupported_N, minlength=len(self.responses)) > 0

    def response_means(self, values_N: Floats) -> Floats:
        """Return the mean of each response's chunks (R)."""
        return self.sums_of_responses(values_N) / np.bincount(self.response_N, minlength=len(self.responses))

    def sums_of_responses(self, values_N: Floats) -> Floats:
        """Return the sum of each response's chunks (R)."""
        return np.bincount(self.response_N, values_N, len(self.responses)).astype(np.float64, copy=False)

    def part(self, responses: Sequence[int] | Ints) -> Scores:
        """Return the scores of some responses, given by index, in that order."""
        chosen = np.asarray(responses, dtype=np.int64)
        new_index = np.full(len(self.responses), -1)
        new_index[chosen] = np.arange(len(chosen))
        is_kept_N = new_index[self.response_N] >= 0
        return replace(
            self,
            external_context_NH=self.external_context_NH[is_kept_N],
            parametric_knowledge_NL=self.parametric_knowledge_NL[is_kept_N],
            is_unsupported_N=self.is_unsupported_N[is_kept_N],
            response_N=new_index[self.response_N[is_kept_N]],
            responses=tuple(self.responses[index] for index in chosen),
            sources=tuple(self.sources[index] for index in chosen),
            baselines={name: values_R[chosen] for name, values_R in self.baselines.items()},
        )


def check_both_classes(scores: Scores) -> None:
    """Raise DetectionError if all responses have the same label, or if there is none."""
    unsupported, total = int(scores.is_unsupported_R.sum()), len(scores.responses)
    if unsupported in (0, total):
        kind = "supported" if total and not unsupported else "unsupported"
        found = f"all {total} responses are {kind}" if total else "there is no response"
        raise DetectionError(f"{found}: a detector needs supported and unsupported ones")


def _problems(scores: Scores) -> list[str]:
    chunks, responses = len(scores.response_N), len(scores.responses)
    shapes = {
        "external_context_NH": (scores.external_context_NH.shape, (chunks, len(scores.heads))),
        "parametric_knowledge_NL": (scores.parametric_knowledge_NL.shape, (chunks, len(scores.layers))),
        "is_unsupported_N": (scores.is_unsupported_N.shape, (chunks,)),
        "sources": ((len(scores.sources),), (responses,)),
    } | {f"baseline {name}": (values_R.shape, (responses,)) for name, values_R in scores.baselines.items()}
    found = [
        f"{name} has the shape {shape}; needed: {needed}" for name, (shape, needed) in shapes.items() if shape != needed
    ]
    if found:
        return found
    if not scores.heads or not scores.layers:
        return ["a detector needs the scores of at least one head and one layer"]
    counts = np.bincount(scores.response_N, minlength=responses) if chunks and scores.response_N.min() >= 0 else None
    if responses and (counts is None or len(counts) != responses or not counts.all()):
        return ["each response needs at least one chunk, and each chunk a response"]
    values = (scores.external_context_NH, scores.parametric_knowledge_NL, *scores.baselines.values())
    return [] if all(np.isfinite(part).all() for part in values) else ["some scores are not finite"]
