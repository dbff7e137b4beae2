"""What to try next where detection was measured: for its accuracy, and shorter contexts for memory and speed.

A technique whose gain was measured is suggested if that is shown, and not if a loss is.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from runtime_matrix.experiments.analysis.columns import SCORES
from runtime_matrix.experiments.records.row import Row
from runtime_matrix.experiments.records.techniques import technique_key, technique_label

SELECT = "benchmark=[detection]"
_OPTIONS = "benchmark.detection."
KEPT = ("benchmark=[", _OPTIONS, "responses.")  # words of a cell's command that hold for the next one
_AUC, _IN_SAMPLE, _RESPONSES = "detection_auc", "detection_auc_in_sample", "detection_responses"
_BASELINES = {"detection_length_auc": "length", "detection_nll_auc": "mean negative log-likelihood"}
_HALF_WIDTH = 0.03  # of the AUC's interval: what techniques and quantization change is of this size
_FIRST_LIMIT = 512  # tokens
_PARTS = ("limit=", "sample=", f"{_OPTIONS}limit=")  # words of a cell that has not all of its responses
_SIMPLE: dict[str, str | int] = {"top_heads": 1, "top_layers": 1, "search": "none", "ensemble": 1}


@dataclass(frozen=True)
class _Advised:
    """A technique by its name in `detector.techniques`, the figure that it improves, and its options."""

    name: str
    figure: str
    why: str
    options: Mapping[str, str | int]

    @property
    def key(self) -> str:
        """Return the key of the factor that it gives on held-out responses."""
        return technique_key(technique_label(self.name, self.figure))


ADVISED = (  # the decision tree of the Optimization Guide, the cheapest first
    _Advised("threshold by F1", "f1", "the threshold with the best F1 instead of 0.5", {"threshold": "f1"}),
    _Advised(
        "heads by mutual information", "auc", "heads chosen by mutual information", {"heads": "mutual_information"}
    ),
    _Advised("grid search", "auc", "a grid search over heads, layers and weights", {"search": "grid"}),
    _Advised("ensemble of 5", "auc", "an ensemble of five head selections", {"ensemble": 5}),
)


@dataclass(frozen=True)
class Suggestion:
    """Words for `experiments.run`, and the reason for them."""

    why: str
    words: tuple[str, ...]


def measured(rows: Sequence[Row]) -> list[Row]:
    """Return the cells whose detection was measured."""
    return [row for row in rows if row.status == "ok" and row.get(_AUC) is not None]


def is_alone(rows: Sequence[Row]) -> bool:
    """Return whether detection is the only score that was measured, so that steps for other work are of no use."""
    return bool(measured(rows)) and not any(row.get(key) is not None for row in rows for key in SCORES if key != _AUC)


def engines(rows: Sequence[Row]) -> set[str]:
    """Return the engines that detection was measured with: others may lack the outputs that it needs."""
    return {row.engine for row in measured(rows)}


def accuracy_steps(rows: Sequence[Row], is_missed: bool) -> list[Suggestion]:
    """Return steps to a better or better known AUC. `is_missed`: some cell misses a constraint on scores."""
    cells = measured(rows)
    if not cells:
        return []
    row = next((cell for cell in cells if cell.is_reference), cells[0])
    overfitted = _overfitted(row)
    simple = [Suggestion(overfitted, _command_words(_SIMPLE))] if overfitted is not None else []
    techniques = _technique_steps(rows, row, is_missed, overfitted is not None)
    return [*simple, *techniques, *_more_responses(row)]


def _technique_steps(rows: Sequence[Row], row: Row, is_missed: bool, is_overfitted: bool) -> Iterator[Suggestion]:
    """Yield the techniques whose gain is shown; those not measured if the AUC is too low and their choice may hold."""
    weakness, gains = _weakness(row), _gains(rows)
    is_explained = False  # the weakness is told once
    for technique in ADVISED:
        gain = gains.get(technique.key)
        if gain is not None:
            factor, low, high = gain
            why = f"{factor:.2f}× [{low:.2f}, {high:.2f}] the {technique.figure.upper()} of held-out responses"
            is_wanted = low > 1
        else:
            why = "not measured here" + (f"; {weakness}" if weakness is not None and not is_explained else "")
            is_wanted = (weakness is not None or is_missed) and (technique.figure == "f1" or not is_overfitted)
        if is_wanted:
            is_explained = is_explained or gain is None
            yield Suggestion(f"{technique.why}: {why}", _command_words(technique.options))


def memory_steps(rows: Sequence[Row]) -> list[Suggestion]:
    """Return shorter contexts, which need less memory."""
    return [_shorter(rows, "shorter contexts: less memory per response, and their end is not read")]


def speed_steps(rows: Sequence[Row]) -> list[Suggestion]:
    """Return batches by length where they were turned off, then shorter contexts."""
    words = {word for row in rows for word in shlex.split(row.command)}
    off = {"scoring.batch=false", "scoring.sort_by_length=false", "scoring.batch_invariant=true"} & words
    batches = (SELECT, "scoring.batch=true", "scoring.sort_by_length=true", "scoring.batch_invariant=false")
    by_length = [Suggestion("responses in batches by length", batches)] if off else []
    return [*by_length, _shorter(rows, "shorter contexts: fewer tokens per response")]


def _command_words(options: Mapping[str, str | int]) -> tuple[str, ...]:
    return (SELECT, *(f"{_OPTIONS}{key}={value}" for key, value in options.items()))


def _gains(rows: Sequence[Row]) -> Mapping[str, tuple[float, float, float]]:
    """Return the measured factor of each technique with its interval, by key; the newest one."""
    found: dict[str, tuple[float, float, float]] = {}
    for row in sorted(rows, key=lambda row: row.started_at):
        for technique in ADVISED:
            interval = row.interval(technique.key)
            found |= {technique.key: interval} if interval is not None else {}
    return found


def _weakness(row: Row) -> str | None:
    """Return why detection is hardly useful: no better than chance, or than a baseline; None if it is."""
    interval, auc = row.interval(_AUC), row[_AUC]
    assert auc is not None
    if interval is not None and interval[1] <= 0.5:
        return f"the AUC of {_of(row)} may be chance"
    for key, name in _BASELINES.items():
        baseline = row.get(key)
        if baseline is not None and baseline >= auc:
            return f"the AUC of {_of(row)} is not above the {baseline:.2f} of {name} alone"
    return None


def _overfitted(row: Row) -> str | None:
    """Return the sentence for heads whose AUC does not carry over to other responses; None if it does."""
    interval, in_sample = row.interval(_AUC), row.get(_IN_SAMPLE)
    if interval is None or in_sample is None or in_sample <= interval[2]:
        return None
    return f"fewer heads, no grid: AUC {in_sample:.2f} in-sample is {_of(row)} on held-out responses"


def _of(row: Row) -> str:
    interval = row.interval(_AUC)
    bounds = "" if interval is None else f" [{interval[1]:.2f}, {interval[2]:.2f}]"
    return f"{row[_AUC]:.2f}{bounds}"


def _more_responses(row: Row) -> Iterator[Suggestion]:
    """Yield the step to a narrower interval, whose width shrinks with the root of the number of responses."""
    interval, responses = row.interval(_AUC), row.get(_RESPONSES)
    if interval is None or not responses:
        return
    half = (interval[2] - interval[1]) / 2
    if half <= _HALF_WIDTH:
        return
    needed = responses * (half / _HALF_WIDTH) ** 2
    size = 10 ** max(0, math.floor(math.log10(needed)) - 1)  # two digits: it is an estimate
    about = int(math.ceil(needed / size) * size)
    why = f"more responses: about {about:,} instead of {responses:,.0f} would give the AUC to ± {_HALF_WIDTH:g}"
    is_part = any(word.startswith(_PARTS) for word in shlex.split(row.command))
    yield Suggestion(why, _command_words({"limit": "null"} if is_part else {"data": "FOLDER"}))


def _shorter(rows: Sequence[Row], why: str) -> Suggestion:
    """Return a limit of tokens: half of the lowest one that was measured."""
    option = f"{_OPTIONS}max_tokens="
    words = [word.removeprefix(option) for row in rows for word in shlex.split(row.command) if word.startswith(option)]
    limits = [int(word) for word in words if word.isdigit() and int(word) > 1]
    return Suggestion(why, _command_words({"max_tokens": min(limits) // 2 if limits else _FIRST_LIMIT}))
