"""The paired comparison of two cells' answers, item by item and per benchmark.

Reads items files (one JSON object per line) and returns figures; nothing is measured here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from runtime_matrix.experiments.records.comparison import OUTPUT_DIFF_SCHEMA_VERSION, BenchmarkDiff, OutputDiff
from runtime_matrix.experiments.records.item import Item, present, read_item
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.paired import calibration_error, holm, paired_difference
from runtime_matrix.experiments.statistics.shares import exact_proportion, mcnemar_mid_p
from runtime_matrix.experiments.tasks.registry import scores
from runtime_matrix.experiments.tasks.score_kinds import Scored, choice_probabilities
from runtime_matrix.experiments.tasks.task import Score

# Largest change of a choice's log-probability by rounding, in nats. A changed answer of unquantized weights beyond it
# is probably a bug. Measured differences between our float32 engines stay below 2e-5.
ROUNDING_NATS = {"float32": 1e-3, "bfloat16": 0.5, "float16": 0.1}
_ANY = Score(metric="", prefix="", noun="")  # for a benchmark that is not installed: right or wrong


class DifferentItems(Exception):
    """The two cells answered different items. The message names the benchmark and the counts."""


def compare(candidate: Record, reference: Record, candidate_folder: Path, reference_folder: Path) -> OutputDiff:
    """Compare each benchmark with items in both folders; `reasons` has those that cannot be compared.

    Of several grid points the first one is compared, as its figures fill the row.
    """
    reference_entries = reference.entries()
    dtype = candidate.runtime.dtype if candidate.held().keeps_values else None
    diffs: dict[str, BenchmarkDiff] = {}
    reasons: dict[str, str] = {}
    for name, entry in candidate.entries().items():
        other = reference_entries.get(name)
        if other is None or not entry.items_file or not other.items_file:
            continue
        if entry.why_unscored or other.why_unscored:
            continue  # the row says so
        try:
            candidate_items = read_items(candidate_folder / entry.items_file, name)
            diffs[name] = compare_items(
                name, candidate_items, read_items(reference_folder / other.items_file, name), dtype
            )
        except DifferentItems as error:
            reasons[name] = str(error)
        # Items of other programs, or damaged ones.
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            reasons[name] = f"{name}: {type(error).__name__}: {error}"
    return OutputDiff(
        schema_version=OUTPUT_DIFF_SCHEMA_VERSION,
        against=reference.record_id,
        benchmarks=_adjusted(diffs),
        reasons=reasons,
        reason="; ".join(reasons.values()) or None,
    )


def _adjusted(diffs: Mapping[str, BenchmarkDiff]) -> dict[str, BenchmarkDiff]:
    """Return the diffs with p values adjusted for the number of benchmarks (Holm 1979)."""
    p_values = {name: diff.p_value for name, diff in diffs.items() if diff.p_value is not None}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return {name: replace(diff, p_value_holm=adjusted.get(name)) for name, diff in diffs.items()}


def compare_items(
    benchmark: str, candidate: Sequence[Item], reference: Sequence[Item], dtype: str | None
) -> BenchmarkDiff:
    """Compare one benchmark's items, which must be the same in the same order, else DifferentItems.

    `dtype`: that of the computation, or None if the weights' values differ, so that rounding explains no change.
    """
    _check_same_items(benchmark, candidate, reference)
    score = score_of(benchmark)
    candidate_scores, reference_scores = scored(benchmark, candidate), scored(benchmark, reference)
    loss_interval = score.kind.loss(candidate_scores, reference_scores)
    if score.kind.is_ratio:
        ratio = _known(loss_interval.exp() if loss_interval else None)
        return BenchmarkDiff(items=len(candidate), score="logprob", perplexity_ratio=ratio)
    diff = BenchmarkDiff(
        items=len(candidate),
        score=score.item_field,
        score_difference=_known(loss_interval.negated() if loss_interval else None),
    )
    if any(item.is_right is not None for item in candidate):
        diff = _with_flips(diff, candidate, reference)
    if candidate_scores.probabilities and reference_scores.probabilities:
        probability = paired_difference(candidate_scores.probabilities, reference_scores.probabilities)
        diff = replace(diff, right_choice_probability_difference=_known(probability))
    # A benchmark may mix choices and texts, as lm-eval's tasks do.
    choices = [pair for pair in zip(candidate, reference, strict=True) if all(item.logprobs for item in pair)]
    if choices:
        diff = _with_choices(diff, choices, dtype)
    texts = [pair for pair in zip(candidate, reference, strict=True) if all(item.text is not None for item in pair)]
    if texts:
        diff = _with_texts(diff, texts)
    return diff


def read_items(path: Path, benchmark: str) -> list[Item]:
    """Return the items of a benchmark's file. OSError if it cannot be read, ValueError for malformed lines."""
    field = score_of(benchmark).item_field
    with path.open(encoding="utf-8") as file:
        return [read_item(json.loads(line), field) for line in file]


def score_of(benchmark: str) -> Score:
    """Return how a benchmark's answers are compared; by right or wrong if the benchmark is not installed."""
    return scores().get(benchmark, _ANY)


def scored(benchmark: str, items: Sequence[Item]) -> Scored:
    """Return the items' values for the paired loss. KeyError for an item without its score."""
    score = score_of(benchmark)
    return score.kind.scored(items, score.item_field)


def _check_same_items(benchmark: str, candidate: Sequence[Item], reference: Sequence[Item]) -> None:
    def key(item: Item) -> tuple[Any, ...]:
        return item.id, item.window, item.sample, item.prompt, item.answer, item.tokens

    if not candidate or [key(item) for item in candidate] != [key(item) for item in reference]:
        raise DifferentItems(
            f"{benchmark}: the two cells answered different items ({len(candidate)} and {len(reference)})"
        )


def _with_flips(diff: BenchmarkDiff, candidate: Sequence[Item], reference: Sequence[Item]) -> BenchmarkDiff:
    """Add the flips: right to wrong and back (Dutta et al. 2024, arXiv 2407.09141)."""
    pairs = list(zip(candidate, reference, strict=True))
    lost = sum(not a.is_right and bool(b.is_right) for a, b in pairs)
    won = sum(bool(a.is_right) and not b.is_right for a, b in pairs)
    return replace(
        diff,
        right_to_wrong=lost,
        wrong_to_right=won,
        flips=exact_proportion(lost + won, len(candidate)),
        p_value=mcnemar_mid_p(lost, won),
    )


def _with_choices(diff: BenchmarkDiff, pairs: Sequence[tuple[Item, Item]], dtype: str | None) -> BenchmarkDiff:
    changed = [(a, b) for a, b in pairs if a.predicted != b.predicted]
    error, reference_error = _calibration([a for a, _ in pairs]), _calibration([b for _, b in pairs])
    moved = [abs(x - y) for a, b in pairs for x, y in zip(_logprobs(a), _logprobs(b), strict=True)]
    suspicious = None
    if dtype is not None:
        suspicious = [b.id for a, b in changed if not _is_near(b, a.predicted, ROUNDING_NATS[dtype])]
    return replace(
        diff,
        changed_answers=exact_proportion(len(changed), diff.items),
        calibration_error=_finite(error),
        reference_calibration_error=_finite(reference_error),
        calibration_error_difference=_finite(error - reference_error),
        max_logprob_difference=_finite(max(moved)),
        suspicious_items=suspicious,
    )


def _logprobs(item: Item) -> list[float]:
    return present(item.logprobs, "logprobs")


def _calibration(items: Sequence[Item]) -> float:
    """Return the calibration error of the likeliest choice, which may differ from the length-normalized prediction."""
    item_probabilities = [choice_probabilities(item) for item in items]
    likeliest = [probabilities.index(max(probabilities)) for probabilities in item_probabilities]
    right = [choice == item.answer for choice, item in zip(likeliest, items, strict=True)]
    return calibration_error([max(probabilities) for probabilities in item_probabilities], right)


def _is_near(reference: Item, other: int, nats: float) -> bool:
    """Return whether a shift of each log-probability by `nats` could turn the reference's answer into the other one."""
    logprobs, first = _logprobs(reference), reference.predicted
    lengths = reference.lengths or [1] * len(logprobs)
    scores = [logprob / length for logprob, length in zip(logprobs, lengths, strict=True)]
    return bool(scores[first] - scores[other] <= nats / lengths[first] + nats / lengths[other])


def _with_texts(diff: BenchmarkDiff, pairs: Sequence[tuple[Item, Item]]) -> BenchmarkDiff:
    same = sum(a.text == b.text for a, b in pairs)
    ids = [(a.ids, b.ids) for a, b in pairs if a.ids is not None and b.ids is not None]
    diverged = sorted(_first_difference(a, b) for a, b in ids if a != b)
    return replace(
        diff,
        same_texts=exact_proportion(same, len(pairs)),
        different_items=[a.id for a, b in pairs if a.text != b.text],
        first_divergence_tokens_p50=diverged[len(diverged) // 2] if diverged else None,
    )


def _first_difference(candidate: Sequence[int], reference: Sequence[int]) -> int:
    """Return the number of tokens before the first difference."""
    return next(
        (i for i, (a, b) in enumerate(zip(candidate, reference, strict=False)) if a != b),
        min(len(candidate), len(reference)),
    )


def _known(interval: Interval | None) -> Interval | None:
    """Return the interval; None if it is missing or, after non-finite logits, not finite."""
    if interval is None or not all(map(math.isfinite, (interval.estimate, interval.low, interval.high))):
        return None
    return interval


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
