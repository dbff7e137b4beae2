"""The judgement of a detector as a JSON object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.detector.cross_fitting import CrossFitted, Figures
from runtime_matrix.experiments.detector.fitting import Detector
from runtime_matrix.experiments.detector.pairing import Difference, Paired
from runtime_matrix.experiments.detector.scores import Scores
from runtime_matrix.experiments.detector.setting import Setting
from runtime_matrix.experiments.detector.techniques import Gain, Technique
from runtime_matrix.experiments.statistics.interval import Interval


def plain_scores(path: str, scores: Scores) -> JsonObject:
    """Return what a file holds."""
    return {
        "file": path,
        "responses": len(scores.responses),
        "unsupported_responses": int(scores.is_unsupported_R.sum()),
        "sources": len(set(scores.sources)),
        "chunks": len(scores.response_N),
        "unsupported_chunks": int(scores.is_unsupported_N.sum()),
        "heads": len(scores.heads),
        "layers": len(scores.layers),
        "notes": list(scores.notes),
    }


def plain_judgement(crossed: CrossFitted, setting: Setting) -> JsonObject:
    """Return the setting, its figures and the detectors: in-sample, and of the first split."""
    return {
        "setting": asdict(setting),
        "splits": len(crossed.held_out.splits),
        "held_out": _plain(crossed.held_out.figures),
        "in_sample": _plain(crossed.in_sample.figures),
        "baseline_auc": {name: _interval(interval) for name, interval in crossed.baselines.items()},
        "in_sample_detector": _detector(crossed.in_sample.splits[0].detectors[0]),
        "half_detectors": [_detector(detector) for detector in crossed.detectors],
        "notes": list(crossed.notes),
    }


def plain_comparison(compared: Paired, path: str) -> JsonObject:
    """Return the AUC of two scores of the same responses and their difference."""
    return {
        "file": path,
        "responses": compared.responses,
        "held_out": _plain(compared.held_out),
        "in_sample": _plain(compared.in_sample),
        "notes": list(compared.notes),
    }


def plain_techniques(
    published: Mapping[str, Gain], chosen: Sequence[Technique], gains: Sequence[Gain]
) -> list[JsonObject]:
    """Return one object for the published setting's figures and for each technique."""
    first = [{"name": "published setting", "figure": figure, **_plain(gain)} for figure, gain in published.items()]
    return [
        *first,
        *(
            {"name": one.name, "figure": one.figure, "claim": one.claim, "setting": asdict(one.setting), **_plain(gain)}
            for one, gain in zip(chosen, gains, strict=True)
        ),
    ]


def _plain(figures: Figures | Difference | Gain) -> JsonObject:
    return {part.name: _interval(getattr(figures, part.name)) for part in fields(figures)}


def _interval(interval: Interval | None) -> JsonObject | None:
    return None if interval is None else asdict(interval)


def _detector(detector: Detector) -> JsonObject:
    names = ("heads", "layers", "alpha", "m", "threshold", "scaled_threshold")
    return {name: getattr(detector, name) for name in names}
