"""The judgement of a detector as text: figures, heads, two scores compared, and techniques beside their claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from runtime_matrix.experiments.detector.cross_fitting import CrossFitted
from runtime_matrix.experiments.detector.fitting import Detector
from runtime_matrix.experiments.detector.pairing import Paired
from runtime_matrix.experiments.detector.scores import Scores
from runtime_matrix.experiments.detector.setting import Setting
from runtime_matrix.experiments.detector.techniques import Gain, Technique
from runtime_matrix.experiments.ledger.claim import Claim
from runtime_matrix.experiments.ledger.judging import Judged
from runtime_matrix.experiments.ledger.verdict import Measured, verdict
from runtime_matrix.experiments.statistics.interval import Interval

FIGURES = {
    "auc": "AUC",
    "average_precision": "average precision",
    "f1": "F1",
    "pearson": "Pearson",
    "chunk_auc": "AUC of chunks",
}
_NAMED = 12  # heads of an ensemble
_SELECTIONS = {"auc": "by AUC", "mutual_information": "by mutual information", "random": "at random", "fixed": "named"}
IN_SAMPLE = "in-sample: judged on the responses that chose heads, layers, weights and threshold, so too good"
FACTOR = "factor: the held-out figure / that of the published setting, which the claims are of"


def summary(path: str, scores: Scores) -> Iterator[str]:
    """Yield what a file holds, and what of it was left out."""
    unsupported = int(scores.is_unsupported_R.sum())
    parts = (
        f"{_count(len(scores.responses), 'response')} ({unsupported} unsupported)",
        _count(len(set(scores.sources)), "source"),
        f"{_count(len(scores.response_N), 'chunk')} ({int(scores.is_unsupported_N.sum())} unsupported)",
        _count(len(scores.heads), "head"),
        _count(len(scores.layers), "layer"),
    )
    yield f"{path}: {', '.join(parts)}"
    yield from (f"note: {note}" for note in scores.notes)


def judgement(crossed: CrossFitted, setting: Setting) -> Iterator[str]:
    """Yield the setting, its figures held out and in-sample, the baselines, and the heads that were chosen."""
    yield f"setting: {setting_line(setting)}"
    yield from (f"note: {note}" for note in crossed.notes)
    yield ""
    yield f"{'[95 %]':20} {'held out':24} in-sample"
    held_out, in_sample = crossed.held_out.figures, crossed.in_sample.figures
    for name, title in FIGURES.items():
        yield f"{title:20} {_interval(getattr(held_out, name)):24} {_interval(getattr(in_sample, name))}"
    for name, interval in crossed.baselines.items():
        yield f"{f'baseline {name}':20} {_interval(interval):24} nothing is fitted (AUC)"
    yield ""
    yield held_out_line(len(crossed.held_out.splits))
    yield IN_SAMPLE
    for title, detector in _detectors(crossed):
        yield f"{title}: {_detector_line(detector)}"


def setting_line(setting: Setting) -> str:
    """Return a setting in one line."""
    weights = f"alpha {setting.alpha:g}, m {setting.m:g}"
    heads = f"{_count(setting.top_heads, 'head')} {_SELECTIONS[setting.heads]}, {_count(setting.top_layers, 'layer')}, "
    if setting.heads == "fixed":
        heads = f"{_count(len(setting.fixed_heads), 'named head')}, {_count(setting.top_layers, 'layer')}, "
    if setting.search == "grid":
        selection = "named heads" if setting.heads == "fixed" else f"heads {_SELECTIONS[setting.heads]}"
        heads, weights = f"{selection}, ", "numbers and weights by grid search"
    members = f", ensemble of {setting.ensemble}" if setting.ensemble > 1 else ""
    return f"{heads}{weights}{members}, threshold {'by F1' if setting.threshold == 'f1' else '0.5'}"


def held_out_line(splits: int) -> str:
    """Return what "held out" means, with the number of splits."""
    mean = "two halves" if splits == 1 else f"two halves in each of {splits} random splits"
    return f"held out: mean of {mean} by source, each judged by the detector fitted on the other half"


def comparison(compared: Paired, second: str) -> Iterator[str]:
    """Yield the AUC of two scores of the same responses and their difference."""
    yield f"against {second}, on the {_count(compared.responses, 'response')} of both files, split alike:"
    yield from (f"note: {note}" for note in compared.notes)
    yield f"{'AUC [95 %]':20} {'held out':24} in-sample"
    rows = (("this file", "first"), ("the other", "second"), ("difference, paired", "difference"))
    for title, name in rows:
        sign = "+" if name == "difference" else ""
        cells = [_interval(getattr(part, name), sign) for part in (compared.held_out, compared.in_sample)]
        yield f"{title:20} {cells[0]:24} {cells[1]}"


def techniques_table(
    published: Mapping[str, Gain], chosen: Sequence[Technique], gains: Sequence[Gain], claims: Sequence[Claim]
) -> Iterator[str]:
    """Yield one line per technique: its figure, its gain over the published setting, and what is claimed of it."""
    row = "{:29} {:6} {:9} {:9} {:25} {:20} {:10} {}".format
    yield row("", "figure", "in-sample", "held out", "gain held out [95 %]", "factor", "claimed", "verdict").rstrip()
    for figure, gain in published.items():
        yield row("published setting", FIGURES[figure], *_estimates(gain), "", "", "", "").rstrip()
    known = {claim.id: claim for claim in claims}
    for technique, gain in zip(chosen, gains, strict=True):
        claim = known.get(technique.claim or "")
        claimed = ("", "") if claim is None else (Judged(claim, None, "unmeasured").claimed, _verdict(claim, gain))
        cells = (_interval(gain.difference, "+"), _interval(gain.ratio, digits=3))
        yield row(technique.name, FIGURES[technique.figure], *_estimates(gain), *cells, *claimed).rstrip()


def _verdict(claim: Claim, gain: Gain) -> str:
    ratio = gain.ratio
    return verdict(claim, None if ratio is None else Measured(ratio.estimate, ratio.low, ratio.high))


def _estimates(gain: Gain) -> list[str]:
    return ["n/a" if part is None else f"{part.estimate:.4f}" for part in (gain.in_sample, gain.held_out)]


def _detectors(crossed: CrossFitted) -> Iterator[tuple[str, Detector]]:
    yield "heads in-sample", crossed.in_sample.splits[0].detectors[0]
    for half, detector in enumerate(crossed.detectors, start=1):
        yield f"heads for half {half}{' of split 1' * (len(crossed.held_out.splits) > 1)}", detector


def _detector_line(detector: Detector) -> str:
    more = f" and {len(detector.heads) - _NAMED} more" if len(detector.heads) > _NAMED else ""
    return (
        f"{' '.join(detector.heads[:_NAMED])}{more}; {' '.join(detector.layers)}; alpha {detector.alpha:g}, "
        f"m {detector.m:g}, threshold {detector.scaled_threshold:.3f} of the range"
    )


def _interval(interval: Interval | None, sign: str = "", digits: int = 4) -> str:
    if interval is None:
        return "n/a"
    low, high = (_number(bound, sign, 3) for bound in (interval.low, interval.high))
    return f"{_number(interval.estimate, sign, digits)} [{low}, {high}]"


def _number(value: float, sign: str, digits: int) -> str:
    return format(round(value, digits) + 0.0, f"{sign}.{digits}f")  # −0 becomes 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
