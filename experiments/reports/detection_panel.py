"""The page's figures of the benchmark `detection`: held out beside in-sample, baselines, and the scores by label."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from runtime_matrix.experiments.records.schema import Entry

_MEASURES = {
    "auc": "AUC",
    "average_precision": "average precision",
    "f1": "F1",
    "pearson": "Pearson’s r",
    "chunk_auc": "AUC over sentences",
}
_BASELINES = {"mean_nll_auc": "AUC, negative log-likelihood", "length_auc": "AUC, length"}


class DetectionFigures(Struct, frozen=True, kw_only=True):
    """What the dialog of a cell shows. Each row is a measure with its held-out and its in-sample text."""

    about: str
    rows: list[tuple[str, str, str]]
    detectors: list[str]  # the heads of each, held out first
    supported: list[float]  # held-out scores of supported responses, sorted and thinned
    unsupported: list[float]


def detection_figures(entries: Sequence[Entry]) -> DetectionFigures | None:
    """Return the figures of the benchmark; None if it was not measured."""
    entry = next((entry for entry in entries if entry.benchmark == "detection"), None)
    if entry is None or entry.figure("auc") is None:
        return None
    scores = entry.figures.get("scores_by_label") or {}
    rows = [(title, _text(entry, name), _text(entry, f"{name}_in_sample")) for name, title in _MEASURES.items()]
    rows += [(title, _text(entry, name), "") for name, title in _BASELINES.items()]
    return DetectionFigures(
        about=_about(entry),
        rows=rows,
        detectors=[
            f"{name}: {', '.join(detector['heads'])}"
            for name, detector in zip(
                ("first half", "second half", "in-sample"),
                [*entry.figures.get("detectors", []), entry.figures.get("detector_in_sample") or {"heads": []}],
                strict=False,
            )
        ],
        supported=list(scores.get("supported", [])),
        unsupported=list(scores.get("unsupported", [])),
    )


def _about(entry: Entry) -> str:
    count, unsupported, sources = (entry.figure(name) for name in ("responses", "unsupported_responses", "sources"))
    about = f"{count or 0:,.0f} responses from {sources or 0:,.0f} sources, {unsupported or 0:,.0f} unsupported. "
    left_out, cut = entry.figure("left_out_responses"), entry.figure("cut_contexts")
    if left_out:
        about += f"{left_out:,.0f} responses were left out. "
    if cut:
        about += f"{cut:,.0f} contexts were cut. "
    return about + "Held out: each half is judged by the detector fitted on the other; [95 % interval over sources]."


def _text(entry: Entry, name: str) -> str:
    value, low, high = (entry.figure(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return "n/a"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"
