"""Are the answers of two cells the same? From the items that both left, benchmark by benchmark.

Reads items (one JSON line each) and returns figures; measures nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.measurement.interval import Interval
from runtime_matrix.experiments.measurement.paired import calibration_error, holm, loss, paired_difference
from runtime_matrix.experiments.measurement.shares import exact_proportion, mcnemar_mid_p

Item = dict[str, Any]
# By how much (in nats) the arithmetic alone may move a choice's log-probability; beyond it a changed answer of
# unquantized weights is probably a bug. Measured differences between our float32 engines stay below 2e-5.
ROUNDING_NATS = {"float32": 1e-3, "bfloat16": 0.5, "float16": 0.1}
_SCORES = {"multiple_choice": "is_right", "code": "is_right", "extractive_qa": "f1", "summarization": "rougeL"}


class DifferentItems(Exception):
    """The two cells were asked different things. One line: which."""


def compare(
    candidate: dict[str, Any], reference: dict[str, Any], candidate_folder: Path, reference_folder: Path
) -> dict[str, Any]:
    """Return `benchmarks`, the figures of each that both records hold, and `reasons` for those that cannot be
    compared."""
    theirs = {entry["benchmark"]: entry for entry in reference["benchmarks"] if entry["items_file"]}
    dtype = candidate["runtime"]["dtype"] if candidate["runtime"]["weights"] == "full" else None
    found: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for entry in candidate["benchmarks"]:
        name, other = entry["benchmark"], theirs.get(entry["benchmark"])
        if other is None or not entry["items_file"] or "failed" in (entry["status"], other["status"]):
            continue
        try:
            mine = read_items(candidate_folder / entry["items_file"])
            found[name] = compare_items(name, mine, read_items(reference_folder / other["items_file"]), dtype)
        except DifferentItems as error:
            reasons[name] = str(error)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:  # items of others, or damaged ones
            reasons[name] = f"{name}: {type(error).__name__}: {error}"
    tested = [name for name, figures in found.items() if figures.get("p_value") is not None]
    for name, adjusted in zip(tested, holm([found[name]["p_value"] for name in tested]), strict=True):
        found[name]["p_value_holm"] = adjusted
    return {"benchmarks": found, "reasons": reasons}


def compare_items(benchmark: str, mine: Sequence[Item], theirs: Sequence[Item], dtype: str | None) -> dict[str, Any]:
    """Return the figures of one benchmark; `dtype` is None where the weights differ and rounding explains nothing."""
    _check_same_items(benchmark, mine, theirs)
    if benchmark == "perplexity":
        return _perplexity(mine, theirs)
    ours, other = scored(benchmark, mine), scored(benchmark, theirs)
    figures: dict[str, Any] = {"items": len(mine), "score": _score_of(benchmark)}
    lost = loss(ours.scores, other.scores, ours.clusters)
    figures["score_difference"] = _plain(lost.negated() if lost else None)
    if "is_right" in mine[0]:
        figures |= _flips(mine, theirs)
    if benchmark == "multiple_choice":
        probability = paired_difference(ours.probabilities or [], other.probabilities or [])
        figures["right_choice_probability_difference"] = _plain(probability)
        figures |= _choices(mine, theirs, dtype)
    if "text" in mine[0]:
        figures |= _texts(mine, theirs)
    return figures


def read_items(path: Path) -> list[Item]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@dataclass(frozen=True)
class Scored:
    """What the items of one benchmark are worth, in their order."""

    ids: list[str]
    clusters: list[Any]
    scores: list[float]  # 0 to 1; of perplexity the log-probability of a window over the mean number of its tokens
    probabilities: list[float] | None  # of the right choice, where choices were scored


def scored(benchmark: str, items: Sequence[Item]) -> Scored:
    """Return the items' scores, by which one may say how much is lost."""
    if benchmark == "perplexity":
        ids = [str(item["window"]) for item in items]
        # Weighted by its tokens, a window's log-probability averages to that of a token.
        mean = sum(item["tokens"] for item in items) / len(items)
        return Scored(ids, list(ids), [item["logprob"] / mean for item in items], None)
    ids = [f"{item['id']}/{item['sample']}" if item.get("sample") else str(item["id"]) for item in items]
    probabilities = None
    if benchmark == "multiple_choice":
        probabilities = [_probabilities(item)[item["answer"]] for item in items]
    values = [float(item[_score_of(benchmark)]) for item in items]
    return Scored(ids, [item.get("cluster", item["id"]) for item in items], values, probabilities)


def _score_of(benchmark: str) -> str:
    """Return the field of an item that says what its answer is worth; right or wrong, where a benchmark is not ours."""
    return _SCORES.get(benchmark, "is_right")


def _check_same_items(benchmark: str, mine: Sequence[Item], theirs: Sequence[Item]) -> None:
    parts = ("id", "window", "sample", "prompt", "answer", "tokens")

    def key(item: Item) -> list[Any]:
        return [item.get(part) for part in parts]

    if not mine or [key(item) for item in mine] != [key(item) for item in theirs]:
        raise DifferentItems(f"{benchmark}: the two cells were asked different items ({len(mine)} and {len(theirs)})")


def _flips(mine: Sequence[Item], theirs: Sequence[Item]) -> dict[str, Any]:
    """Right to wrong and back (Dutta et al. 2024, arXiv 2407.09141)."""
    lost = sum(not a["is_right"] and b["is_right"] for a, b in zip(mine, theirs, strict=True))
    won = sum(a["is_right"] and not b["is_right"] for a, b in zip(mine, theirs, strict=True))
    return {
        "right_to_wrong": lost,
        "wrong_to_right": won,
        "flips": _plain(exact_proportion(lost + won, len(mine))),
        "p_value": mcnemar_mid_p(lost, won),
    }


def _choices(mine: Sequence[Item], theirs: Sequence[Item], dtype: str | None) -> dict[str, Any]:
    changed = [(a, b) for a, b in zip(mine, theirs, strict=True) if a["predicted"] != b["predicted"]]
    figures = {
        "changed_answers": _plain(exact_proportion(len(changed), len(mine))),
        "calibration_error": _calibration(mine),
        "reference_calibration_error": _calibration(theirs),
        "max_logprob_difference": max(
            abs(x - y)
            for a, b in zip(mine, theirs, strict=True)
            for x, y in zip(a["logprobs"], b["logprobs"], strict=True)
        ),
    }
    figures["calibration_error_difference"] = figures["calibration_error"] - figures["reference_calibration_error"]
    if dtype is not None:
        allowed = ROUNDING_NATS[dtype]
        figures["suspicious_items"] = [b["id"] for a, b in changed if not _is_near(b, a["predicted"], allowed)]
    return figures


def _probabilities(item: Item) -> list[float]:
    highest = max(item["logprobs"])
    weights = [math.exp(value - highest) for value in item["logprobs"]]
    return [weight / sum(weights) for weight in weights]


def _calibration(items: Sequence[Item]) -> float:
    """Of the likeliest choice, which need not be the predicted one where lengths are divided out."""
    chances = [_probabilities(item) for item in items]
    likeliest = [one.index(max(one)) for one in chances]
    right = [choice == item["answer"] for choice, item in zip(likeliest, items, strict=True)]
    return calibration_error([max(one) for one in chances], right)


def _is_near(reference: Item, other: int, nats: float) -> bool:
    """Say whether the reference's answer would give way to the other one if each moved by so many nats."""
    first, lengths = reference["predicted"], reference.get("lengths") or [1] * len(reference["logprobs"])
    scores = [logprob / length for logprob, length in zip(reference["logprobs"], lengths, strict=True)]
    return bool(scores[first] - scores[other] <= nats / lengths[first] + nats / lengths[other])


def _texts(mine: Sequence[Item], theirs: Sequence[Item]) -> dict[str, Any]:
    pairs = list(zip(mine, theirs, strict=True))
    same = sum(a["text"] == b["text"] for a, b in pairs)
    diverged = sorted(_first_difference(a["ids"], b["ids"]) for a, b in pairs if a.get("ids") != b.get("ids"))
    return {
        "same_texts": _plain(exact_proportion(same, len(pairs))),
        "different_items": [a["id"] for a, b in pairs if a["text"] != b["text"]],
        "first_divergence_tokens_p50": diverged[len(diverged) // 2] if diverged else None,
    }


def _first_difference(mine: Sequence[int], theirs: Sequence[int]) -> int:
    """Return the number of tokens before the first one that differs."""
    return next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))


def _perplexity(mine: Sequence[Item], theirs: Sequence[Item]) -> dict[str, Any]:
    """Return the ratio of perplexities; the difference of a window's log-probability is what is independent."""
    nats = paired_difference(scored("perplexity", theirs).scores, scored("perplexity", mine).scores)
    return {"items": len(mine), "score": "logprob", "perplexity_ratio": _plain(nats.exp() if nats else None)}


def _plain(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else asdict(interval)
