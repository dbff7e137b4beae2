"""Are the answers of two cells the same? From the items that both left, benchmark by benchmark.

Reads items (one JSON line each) and returns figures; measures nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from runtime_matrix.experiments.records.comparison import OUTPUT_DIFF_SCHEMA_VERSION, BenchmarkDiff, OutputDiff
from runtime_matrix.experiments.records.schema import Record, typed
from runtime_matrix.experiments.statistics.interval import Interval
from runtime_matrix.experiments.statistics.paired import calibration_error, holm, loss, paired_difference
from runtime_matrix.experiments.statistics.shares import exact_proportion, mcnemar_mid_p
from runtime_matrix.experiments.tasks.registry import scores
from runtime_matrix.experiments.tasks.task import Score

T = TypeVar("T")

# By how much (in nats) the arithmetic alone may move a choice's log-probability; beyond it a changed answer of
# unquantized weights is probably a bug. Measured differences between our float32 engines stay below 2e-5.
ROUNDING_NATS = {"float32": 1e-3, "bfloat16": 0.5, "float16": 0.1}
_ANY = Score(metric="", prefix="", noun="")  # of a benchmark that is not installed: right or wrong


class DifferentItems(Exception):
    """The two cells were asked different things. One line: which."""


class Item(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a cell said to one item of a benchmark; which fields an item has depends on its benchmark."""

    id: str | int | None = None
    sample: int | None = None  # of a problem that is answered several times
    cluster: str | int | None = None  # items that share one are not independent
    prompt: Any = None
    answer: Any = None  # the right one; of multiple choice its index
    predicted: Any = None
    is_right: bool | float | None = None
    worth: bool | float | None = None  # what the answer is worth, from 0 to 1: the field that `Score` names
    logprobs: list[float] | None = None  # of each choice
    lengths: list[int] | None = None  # of each choice, by which its log-probability is divided
    text: str | None = None
    ids: list[int] | None = None  # tokens of the text
    window: int | None = None
    tokens: int | None = None  # of the window
    logprob: float | None = None  # of the window


def compare(candidate: Record, reference: Record, candidate_folder: Path, reference_folder: Path) -> OutputDiff:
    """Compare each benchmark that left items in both folders, and say why others cannot be compared."""
    theirs = {entry.benchmark: entry for entry in reference.benchmarks if entry.items_file}
    dtype = candidate.runtime.dtype if candidate.held().keeps_values else None
    diffs: dict[str, BenchmarkDiff] = {}
    reasons: dict[str, str] = {}
    for entry in candidate.benchmarks:
        name, other = entry.benchmark, theirs.get(entry.benchmark)
        if other is None or not entry.items_file or not other.items_file or "failed" in (entry.status, other.status):
            continue
        try:
            mine = read_items(candidate_folder / entry.items_file, name)
            diffs[name] = compare_items(name, mine, read_items(reference_folder / other.items_file, name), dtype)
        except DifferentItems as error:
            reasons[name] = str(error)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:  # items of others, or damaged ones
            reasons[name] = f"{name}: {type(error).__name__}: {error}"
    return OutputDiff(
        schema_version=OUTPUT_DIFF_SCHEMA_VERSION,
        against=reference.record_id,
        benchmarks=_adjusted(diffs),
        reasons=reasons,
        reason="; ".join(reasons.values()) or None,
    )


def _adjusted(diffs: Mapping[str, BenchmarkDiff]) -> dict[str, BenchmarkDiff]:
    """Return the diffs with p values that are adjusted for the number of benchmarks."""
    p_values = {name: diff.p_value for name, diff in diffs.items() if diff.p_value is not None}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return {name: replace(diff, p_value_holm=adjusted.get(name)) for name, diff in diffs.items()}


def compare_items(benchmark: str, mine: Sequence[Item], theirs: Sequence[Item], dtype: str | None) -> BenchmarkDiff:
    """Compare one benchmark; `dtype` is None where the weights' values differ and rounding explains nothing."""
    _check_same_items(benchmark, mine, theirs)
    score = score_of(benchmark)
    if score.kind == "perplexity":
        return _perplexity(benchmark, mine, theirs)
    ours, other = scored(benchmark, mine), scored(benchmark, theirs)
    lost = loss(ours.scores, other.scores, ours.clusters)
    diff = BenchmarkDiff(
        items=len(mine), score=score.item_field, score_difference=_known(lost.negated() if lost else None)
    )
    if mine[0].is_right is not None:
        diff = _with_flips(diff, mine, theirs)
    if mine[0].logprobs is not None:
        probability = paired_difference(ours.probabilities or [], other.probabilities or [])
        diff = replace(diff, right_choice_probability_difference=_known(probability))
        diff = _with_choices(diff, mine, theirs, dtype)
    if mine[0].text is not None:
        diff = _with_texts(diff, mine, theirs)
    return diff


def read_items(path: Path, benchmark: str) -> list[Item]:
    """Return the items of a benchmark's file. ValueError for lines that are none."""
    field = score_of(benchmark).item_field
    with path.open(encoding="utf-8") as file:
        return [_item(json.loads(line), field) for line in file]


def _item(line: Any, field: str) -> Item:
    if not isinstance(line, dict):
        raise ValueError(f"an item is no object: {str(line)[:60]}")
    return typed({**line, "worth": line.get(field)}, Item)


def score_of(benchmark: str) -> Score:
    """Return how a benchmark's answers are compared; right or wrong, where it is not installed."""
    return scores().get(benchmark, _ANY)


@dataclass(frozen=True)
class Scored:
    """What the items of one benchmark are worth, in their order."""

    ids: list[str]
    clusters: list[Hashable]
    scores: list[float]  # 0 to 1; of perplexity the log-probability of a window over the mean number of its tokens
    probabilities: list[float] | None  # of the right choice, where choices were scored


def scored(benchmark: str, items: Sequence[Item]) -> Scored:
    """Return the items' scores, by which one may say how much is lost. KeyError for an item that has none."""
    if score_of(benchmark).kind == "perplexity":
        ids = [str(_present(item.window, "window")) for item in items]
        # Weighted by its tokens, a window's log-probability averages to that of a token.
        mean = sum(_present(item.tokens, "tokens") for item in items) / len(items)
        return Scored(ids, list(ids), [_present(item.logprob, "logprob") / mean for item in items], None)
    names = [_present(item.id, "id") for item in items]
    ids = [f"{name}/{item.sample}" if item.sample else str(name) for name, item in zip(names, items, strict=True)]
    probabilities = None
    if items and items[0].logprobs is not None:
        probabilities = [_probabilities(item)[item.answer] for item in items]
    clusters = [item.cluster if item.cluster is not None else name for name, item in zip(names, items, strict=True)]
    return Scored(
        ids, clusters, [float(_present(item.worth, score_of(benchmark).item_field)) for item in items], probabilities
    )


def _present(value: T | None, name: str) -> T:
    if value is None:
        raise KeyError(name)
    return value


def _check_same_items(benchmark: str, mine: Sequence[Item], theirs: Sequence[Item]) -> None:
    def key(item: Item) -> tuple[Any, ...]:
        return item.id, item.window, item.sample, item.prompt, item.answer, item.tokens

    if not mine or [key(item) for item in mine] != [key(item) for item in theirs]:
        raise DifferentItems(f"{benchmark}: the two cells were asked different items ({len(mine)} and {len(theirs)})")


def _with_flips(diff: BenchmarkDiff, mine: Sequence[Item], theirs: Sequence[Item]) -> BenchmarkDiff:
    """Right to wrong and back (Dutta et al. 2024, arXiv 2407.09141)."""
    pairs = list(zip(mine, theirs, strict=True))
    lost = sum(not a.is_right and bool(b.is_right) for a, b in pairs)
    won = sum(bool(a.is_right) and not b.is_right for a, b in pairs)
    return replace(
        diff,
        right_to_wrong=lost,
        wrong_to_right=won,
        flips=exact_proportion(lost + won, len(mine)),
        p_value=mcnemar_mid_p(lost, won),
    )


def _with_choices(
    diff: BenchmarkDiff, mine: Sequence[Item], theirs: Sequence[Item], dtype: str | None
) -> BenchmarkDiff:
    pairs = list(zip(mine, theirs, strict=True))
    changed = [(a, b) for a, b in pairs if a.predicted != b.predicted]
    error, reference_error = _calibration(mine), _calibration(theirs)
    moved = [abs(x - y) for a, b in pairs for x, y in zip(_logprobs(a), _logprobs(b), strict=True)]
    suspicious = None
    if dtype is not None:
        suspicious = [b.id for a, b in changed if not _is_near(b, a.predicted, ROUNDING_NATS[dtype])]
    return replace(
        diff,
        changed_answers=exact_proportion(len(changed), len(mine)),
        calibration_error=_finite(error),
        reference_calibration_error=_finite(reference_error),
        calibration_error_difference=_finite(error - reference_error),
        max_logprob_difference=_finite(max(moved)),
        suspicious_items=suspicious,
    )


def _logprobs(item: Item) -> list[float]:
    return _present(item.logprobs, "logprobs")


def _probabilities(item: Item) -> list[float]:
    highest = max(_logprobs(item))
    weights = [math.exp(value - highest) for value in _logprobs(item)]
    return [weight / sum(weights) for weight in weights]


def _calibration(items: Sequence[Item]) -> float:
    """Of the likeliest choice, which need not be the predicted one where lengths are divided out."""
    chances = [_probabilities(item) for item in items]
    likeliest = [of_choices.index(max(of_choices)) for of_choices in chances]
    right = [choice == item.answer for choice, item in zip(likeliest, items, strict=True)]
    return calibration_error([max(of_choices) for of_choices in chances], right)


def _is_near(reference: Item, other: int, nats: float) -> bool:
    """Say whether the reference's answer would give way to the other one if each moved by so many nats."""
    logprobs, first = _logprobs(reference), reference.predicted
    lengths = reference.lengths or [1] * len(logprobs)
    scores = [logprob / length for logprob, length in zip(logprobs, lengths, strict=True)]
    return bool(scores[first] - scores[other] <= nats / lengths[first] + nats / lengths[other])


def _with_texts(diff: BenchmarkDiff, mine: Sequence[Item], theirs: Sequence[Item]) -> BenchmarkDiff:
    pairs = list(zip(mine, theirs, strict=True))
    same = sum(a.text == b.text for a, b in pairs)
    ids = [(a.ids, b.ids) for a, b in pairs if a.ids is not None and b.ids is not None]
    diverged = sorted(_first_difference(a, b) for a, b in ids if a != b)
    return replace(
        diff,
        same_texts=exact_proportion(same, len(pairs)),
        different_items=[a.id for a, b in pairs if a.text != b.text],
        first_divergence_tokens_p50=diverged[len(diverged) // 2] if diverged else None,
    )


def _first_difference(mine: Sequence[int], theirs: Sequence[int]) -> int:
    """Return the number of tokens before the first one that differs."""
    return next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))


def _perplexity(benchmark: str, mine: Sequence[Item], theirs: Sequence[Item]) -> BenchmarkDiff:
    """Return the ratio of perplexities; the difference of a window's log-probability is what is independent."""
    nats = paired_difference(scored(benchmark, theirs).scores, scored(benchmark, mine).scores)
    return BenchmarkDiff(items=len(mine), score="logprob", perplexity_ratio=_known(nats.exp() if nats else None))


def _known(interval: Interval | None) -> Interval | None:
    """Return the interval; None where logits that are no numbers left none."""
    if interval is None or not all(map(math.isfinite, (interval.estimate, interval.low, interval.high))):
        return None
    return interval


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
