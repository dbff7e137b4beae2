"""Whether recorded and new answers are the same: item by item, or by the scores of a published row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.analysis.paired_outputs import read_items, score_of, scored
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.item import Item
from runtime_matrix.experiments.reproduction.speed_findings import LEVEL, Finding, Verdict
from runtime_matrix.experiments.tasks.registry import scores

_Z = 2.576  # of 99 %, two-sided


def paired_findings(recorded: Result, measured: Result) -> list[Finding]:
    """Compare each benchmark on the same items, with the interval of the mean difference at 99 %."""
    findings = []
    others = measured.record.entries()
    for name, entry in recorded.record.entries().items():
        other = others.get(name)
        if other is None or not entry.items_file or not other.items_file:
            continue
        if entry.why_unscored or other.why_unscored:
            continue
        try:
            before = read_items(_beside(recorded.folder, entry.items_file), name)
            after = read_items(_beside(measured.folder, other.items_file), name)
            findings.append(_paired(name, before, after))
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            findings.append(Finding(name, "inconclusive", f"its items cannot be compared: {error}"))
    return findings


def _beside(folder: Path, name: str) -> Path:
    """Return a file of the folder. ValueError for a path that leads out of it."""
    if Path(name).name != name:
        raise ValueError(f"items_file {name!r} is not a file of the record's folder")
    return folder / name


def _paired(name: str, before: Sequence[Item], after: Sequence[Item]) -> Finding:
    old, new = scored(name, before), scored(name, after)
    if old.ids != new.ids:
        return Finding(name, "inconclusive", f"other items: {len(old.ids)} recorded, {len(new.ids)} now")
    changed = sum(one != other for one, other in zip(old.scores, new.scores, strict=True))
    kind = score_of(name).kind
    lost = kind.loss(new, old, LEVEL)
    if lost is None:
        return Finding(name, "inconclusive", f"{len(old.ids)} items are too few")
    is_same = lost.low <= kind.rounding and lost.high >= -kind.rounding
    bounds = f"mean change {-lost.estimate:+.4g} [{-lost.high:+.4g}, {-lost.low:+.4g}]"
    text = f"{changed} of {len(old.ids)} items scored otherwise, {bounds}"
    return Finding(name, "reproduced" if is_same else "not reproduced", text, change=f"{-lost.estimate:+.4g}")


def published_findings(recorded: Mapping[str, float | None], measured: Result) -> list[Finding]:
    """Compare the scores of a published row, which has no items, within their standard errors."""
    (row,) = rows([measured])
    findings = []
    for name, score in scores().items():
        old, new = recorded.get(score.metric), row.get(score.metric)
        if old is None or new is None:
            continue
        error = recorded.get(f"{score.metric}_standard_error")
        verdict: Verdict = "reproduced"
        if not math.isclose(old, new, rel_tol=1e-6):
            within = error is not None and abs(new - old) <= _Z * math.sqrt(2) * error
            verdict = "inconclusive" if within else "not reproduced"
        text = f"recorded {old:.6g}, now {new:.6g}"
        if verdict == "inconclusive":
            text += ": within the standard error, but the matrix has no items to pair"
        findings.append(Finding(name, verdict, text, change=f"{new - old:+.4g}"))
    return findings
