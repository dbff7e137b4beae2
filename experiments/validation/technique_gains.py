"""What the techniques of detection give over the published setting, as figures of a record and as a table."""

from __future__ import annotations

from collections.abc import Mapping

from runtime_matrix.experiments.config.plain_json import JsonObject
from runtime_matrix.experiments.detector.scores import Scores
from runtime_matrix.experiments.detector.techniques import Gain, gains, techniques
from runtime_matrix.experiments.records.techniques import technique_label
from runtime_matrix.experiments.statistics.interval import Interval

PUBLISHED = "published setting"


def technique_figures(scores: Scores, seed: int, splits: int) -> dict[str, JsonObject]:
    """Return the figures of the published setting and of each technique, by label. DetectionError as of `gains`."""
    chosen = techniques(scores.heads, seed)
    published, gained = gains(scores, chosen, seed, splits)
    bases = {technique_label(PUBLISHED, figure): _estimates(gain) for figure, gain in published.items()}
    labels = [technique_label(technique.name, technique.figure) for technique in chosen]
    return {**bases, **{label: _figures(gain) for label, gain in zip(labels, gained, strict=True)}}


def table(figures: Mapping[str, JsonObject], scores: Scores, data: str, splits: int) -> list[str]:
    """Return a Markdown table of the techniques, with the conditions before it."""
    unsupported = int(scores.is_unsupported_R.sum())
    lines = [
        f"Techniques on {len(scores.responses)} responses, {unsupported} of them unsupported ({data}): chosen on one "
        f"half of the responses and judged on the other, over {splits} splits; in-sample on all of them. The factor is "
        "that of the held-out figure over the published setting's.",
        "",
        "| technique, figure | in-sample | held out | factor [95 %] |",
        "| --- | ---: | ---: | ---: |",
    ]
    for label, values in figures.items():
        cells = [_number(values[name]) for name in ("in_sample", "held_out")]
        bounds = [_number(values.get(f"ratio{end}")) for end in ("", "_low", "_high")]
        factor = "" if "ratio" not in values else f"{bounds[0]} [{bounds[1]}, {bounds[2]}]"
        lines.append(f"| {label} | {' | '.join([*cells, factor])} |")
    return lines


def _figures(gain: Gain) -> JsonObject:
    return {
        "ratio": _estimate(gain.ratio),
        "ratio_low": None if gain.ratio is None else gain.ratio.low,
        "ratio_high": None if gain.ratio is None else gain.ratio.high,
        **_estimates(gain),
    }


def _estimates(gain: Gain) -> JsonObject:
    return {"held_out": _estimate(gain.held_out), "in_sample": _estimate(gain.in_sample)}


def _estimate(interval: Interval | None) -> float | None:
    return None if interval is None else interval.estimate


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
