"""The scores of a benchmark's responses: chunks from observed tokens, the detector's figures, and the items file.

N chunks, R responses, T tokens of a response, H heads of all layers, L layers.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.detector.cross_fitting import CrossFitted, cross_fitted, halves, judged
from runtime_matrix.experiments.detector.fitting import Detector
from runtime_matrix.experiments.detector.scores import Scores
from runtime_matrix.experiments.detector.setting import Setting
from runtime_matrix.experiments.detector.stored import head_name, layer_name, stored_response
from runtime_matrix.experiments.evaluation.requests import Observed
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.tasks.detection_chunks import Chunked

LENGTH, NLL = "length", "mean_nll"  # baselines: characters; mean negative log-likelihood of the tokens in nats
_DIGITS = 7  # significant ones, as many as float32 has
_DRAWN = 120  # scores of a label in the entry; the items file has all
_Z = 1.959964  # the normal distribution's two-sided 95 %


@dataclass(frozen=True, eq=False)
class ResponseScores:
    """One response: the mean scores of its chunks, and of its tokens the means over heads and over layers."""

    external_context_NH: NDArray[np.float64]
    parametric_knowledge_NL: NDArray[np.float64]
    logprobs_T: NDArray[np.float32]
    external_context_T: NDArray[np.float32]
    parametric_knowledge_T: NDArray[np.float32]
    heads_per_layer: int


@dataclass(frozen=True, eq=False)
class Judged:
    """The detector's figures, and the seconds that it took to fit it on each half and judge the other."""

    result: CrossFitted
    fit_s: float


def response_scores(chunked: Chunked, observed: Observed) -> ResponseScores:
    """Return the means of a response's chunks and tokens. Its other scores are kept nowhere."""
    chunk_T = np.asarray(chunked.chunk_T)
    counts_N = np.bincount(chunk_T, minlength=len(chunked.spans))

    def means(values_TC: NDArray[np.float32]) -> NDArray[np.float64]:
        sums_NC = np.zeros((len(counts_N), values_TC.shape[1]))
        np.add.at(sums_NC, chunk_T, values_TC)
        return _rounded(sums_NC / counts_N[:, None])

    return ResponseScores(
        means(observed.external_context_TH),
        means(observed.parametric_knowledge_TL),
        observed.logprobs_T,
        observed.external_context_TH.mean(axis=1),
        observed.parametric_knowledge_TL.mean(axis=1),
        observed.heads_per_layer,
    )


def all_scores(chunked: Sequence[Chunked], parts: Sequence[ResponseScores]) -> Scores:
    """Return the scores from which detectors are fitted, the baselines beside them."""
    heads, layers = parts[0].external_context_NH.shape[1], parts[0].parametric_knowledge_NL.shape[1]
    per_layer = parts[0].heads_per_layer
    return Scores(
        external_context_NH=np.concatenate([part.external_context_NH for part in parts]),
        parametric_knowledge_NL=np.concatenate([part.parametric_knowledge_NL for part in parts]),
        is_unsupported_N=np.array([label for response in chunked for label in response.is_unsupported_N]),
        response_N=np.repeat(np.arange(len(chunked)), [len(response.spans) for response in chunked]),
        responses=tuple(response.response.id for response in chunked),
        sources=tuple(response.response.source_id for response in chunked),
        heads=tuple(head_name(*divmod(head, per_layer)) for head in range(heads)),
        layers=tuple(layer_name(layer) for layer in range(layers)),
        baselines={
            NLL: _rounded(np.array([-part.logprobs_T.mean(dtype=np.float64) for part in parts])),
            LENGTH: np.array([float(len(response.response.text)) for response in chunked]),
        },
    )


def judge(scores: Scores, setting: Setting, seed: int) -> Judged:
    """Fit and judge the detector on two halves of the responses. DetectionError if there are too few."""
    result = cross_fitted(scores, setting, seed)
    start_s = time.perf_counter()  # a second time, so that imports and the bootstrap do not count
    judged(scores, setting, halves(scores, seed))
    return Judged(result, time.perf_counter() - start_s)


def figures(scores: Scores, judgement: Judged) -> JsonObject:
    """Return the figures of an entry: held out, in-sample, and of the baselines."""
    result = judgement.result
    held_out, in_sample = result.held_out.figures, result.in_sample.figures
    found: JsonObject = {}
    for part in fields(held_out):
        found |= _with_ends(part.name, getattr(held_out, part.name))
        found |= _with_ends(f"{part.name}_in_sample", getattr(in_sample, part.name))
    for name in (LENGTH, NLL):
        found |= _with_ends(f"{name}_auc", result.baselines.get(name))
    interval = held_out.auc
    return found | {
        "auc_standard_error": None if interval is None else interval.half_width / _Z,
        "responses": len(scores.responses),
        "unsupported_responses": int(scores.is_unsupported_R.sum()),
        "chunks": len(scores.response_N),
        "unsupported_chunks": int(scores.is_unsupported_N.sum()),
        "sources": len(set(scores.sources)),
        "fit_s": judgement.fit_s,
        "detectors": [_detector(detector) for detector in result.detectors],
        "detector_in_sample": _detector(result.in_sample.splits[0].detectors[0]),
        "detector_notes": list(result.notes),
        "scores_by_label": {
            name: _thinned(result.response_scores_R[scores.is_unsupported_R == label])
            for name, label in (("supported", False), ("unsupported", True))
        },
    }


def item_lines(
    chunked: Sequence[Chunked], parts: Sequence[ResponseScores], scores: Scores, result: CrossFitted
) -> Iterator[JsonObject]:
    """Yield one object per response in the layout of stored scores, with its scores by the detector."""
    in_sample_R = result.in_sample.splits[0].response_scores_R
    chunk_scores = [[] for _ in chunked]  # type: list[list[float]]
    for response, score in zip(scores.response_N.tolist(), result.chunk_scores_N.tolist(), strict=True):
        chunk_scores[response].append(score)
    for index, (one, part) in enumerate(zip(chunked, parts, strict=True)):
        response = one.response
        more = {
            "cluster": response.source_id,
            "prompt": response.prompt,
            "response": response.text,
            "labels": [{"start": start, "end": end} for start, end in response.unsupported],
            "is_unsupported": response.is_unsupported,
            "fold": int(result.fold_R[index]),
            "response_score": float(result.response_scores_R[index]),
            "in_sample_score": float(in_sample_R[index]),
            "is_judged_unsupported": bool(result.predictions_R[index]),
            "response_spans": [list(span) for span in one.spans],
            "chunk_scores": chunk_scores[index],
            "token_scores": {
                "ends": one.ends_T,
                "logprobs": _short(part.logprobs_T),
                "external_context": _short(part.external_context_T),
                "parametric_knowledge": _short(part.parametric_knowledge_T),
            },
        }
        yield stored_response(response.id, response.source_id, scores.part([index]), more)


def collected(chunked: Iterable[Chunked], observed: Iterable[Observed]) -> list[ResponseScores]:
    """Return the scores of each response; observations are taken one by one and not kept."""
    return [response_scores(response, one) for response, one in zip(chunked, observed, strict=True)]


def _detector(detector: Detector) -> JsonObject:
    return {
        "heads": list(detector.heads),
        "layers": list(detector.layers),
        "alpha": detector.alpha,
        "m": detector.m,
        "threshold": detector.threshold,
    }


def _with_ends(name: str, interval: Interval | None) -> JsonObject:
    ends = (None, None, None) if interval is None else (interval.estimate, interval.low, interval.high)
    return {name: ends[0], f"{name}_low": ends[1], f"{name}_high": ends[2]}


def _thinned(scores_R: NDArray[np.float64]) -> list[float]:
    """Return the sorted scores, thinned to `_DRAWN` evenly spaced ones, as a chart shows them."""
    ordered = np.sort(scores_R)
    places = np.linspace(0, len(ordered) - 1, min(_DRAWN, len(ordered)))
    return [float(f"{score:.4g}") for score in ordered[np.round(places).astype(int)].tolist()]


def _rounded(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return values of few digits, so that the items file is short and holds what the figures were computed from."""
    with np.errstate(divide="ignore"):
        places = _DIGITS - 1 - np.floor(np.log10(np.abs(values)))
    scale = 10.0 ** np.where(np.isfinite(places), np.minimum(places, 300), 0.0)
    return np.asarray(np.round(values * scale) / scale, dtype=np.float64)


def _short(values_T: NDArray[np.float32]) -> list[float]:
    return [float(f"{value:.5g}") for value in values_T.tolist()]
