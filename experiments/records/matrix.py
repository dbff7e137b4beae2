"""The matrix: one row a record, derived on reading. Unknown is None.

Percentiles, ratios and bounds are statistics, from `measurement`, and are not stored.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from runtime_matrix.experiments.records.costs import energy, money, pays_after, start
from runtime_matrix.experiments.records.environment import machine_facts, memory_class
from runtime_matrix.experiments.records.identity import cell_names, variants
from runtime_matrix.experiments.records.processor import describe
from runtime_matrix.experiments.records.roofline import peak_note
from runtime_matrix.experiments.records.score_bounds import SCORES, score_bounds
from runtime_matrix.experiments.records.speed_row import speed_row
from runtime_matrix.experiments.records.timed_work import INVALID_TIMING, WRONG_OUTPUT

_ERROR = 0.05  # that an interval of a column of ratios misses what it is of: all of the column's together
_TEXTS = {  # a row's share of equal texts, and its benchmark
    "code_same_texts_ratio": "code",
    "qa_same_texts_ratio": "extractive_qa",
    "rouge_same_texts_ratio": "summarization",
}
_SCORES = {  # key of a row: benchmark and its figure
    "perplexity": ("perplexity", "perplexity"),
    "perplexity_standard_error": ("perplexity", "standard_error"),
    "perplexity_per_byte": ("perplexity", "per_byte"),
    "mcq_accuracy": ("multiple_choice", "accuracy"),
    "mcq_accuracy_standard_error": ("multiple_choice", "standard_error"),
    "code_pass_at_1": ("code", "pass_at_1"),
    "code_pass_at_1_standard_error": ("code", "pass_at_1_standard_error"),
    "qa_exact_match": ("extractive_qa", "exact_match"),
    "qa_exact_match_standard_error": ("extractive_qa", "exact_match_standard_error"),
    "qa_f1": ("extractive_qa", "f1"),
    "qa_f1_standard_error": ("extractive_qa", "f1_standard_error"),
    "rouge_1": ("summarization", "rouge1"),
    "rouge_2": ("summarization", "rouge2"),
    "rouge_l": ("summarization", "rougeL"),
    "rouge_l_standard_error": ("summarization", "rougeL_standard_error"),
}
_AGREEMENT = {
    "kl_mean": ("divergence", "kl_mean"),
    "kl_standard_error": ("divergence", "kl_standard_error"),
    "kl_p99": ("divergence", "kl_p99"),
    "divergence_same_top_ratio": ("divergence", "same_top_ratio"),
    "agreement_same_top_ratio": ("agreement", "same_top_ratio"),
    "agreement_max_logit_difference": ("agreement", "max_logit_difference"),
}


def rows(records: Sequence[dict[str, Any]], all: bool = False) -> list[dict[str, Any]]:
    """Return one row a cell and machine, the latest record of each; with `all` one a record.

    A row's `config_hash` is the name of its cell, the same over versions of this program; a record's is its own.
    """
    levels, names = _levels(records), cell_names(records)
    missing = _missing_cells(records)
    made = [
        {**_row(record, level), "config_hash": name, "variant": variant, "sweep_missing_cells": missing(record)}
        for record, level, name, variant in zip(records, levels, names, variants(records, names), strict=True)
    ]
    references = {(r["run_id"], r["model_digest"]): r for r in made if r["is_reference"] and r["status"] == "ok"}
    for row in made:
        reference = references.get((row["run_id"], row["model_digest"]), {})
        for score in ("perplexity", "mcq_accuracy", "code_pass_at_1", "qa_f1", "rouge_l"):
            row[f"{score}_percent_of_reference"] = _percent(row[score], reference.get(score))
        row |= pays_after(row, reference)
    return made if all else latest(made)


def _missing_cells(records: Sequence[dict[str, Any]]) -> Callable[[dict[str, Any]], int | None]:
    """Return how many cells of a record's sweep are not recorded; None for records that do not name their sweep."""
    present: dict[str, set[int]] = {}
    for record in records:
        sweep = record.get("sweep")
        if sweep and record["status"] != "interrupted":
            present.setdefault(sweep["id"], set()).add(sweep["index"])

    def missing(record: dict[str, Any]) -> int | None:
        sweep = record.get("sweep")
        return None if not sweep else int(sweep["cells"]) - len(present.get(sweep["id"], ()))

    return missing


def _levels(records: Sequence[dict[str, Any]]) -> list[float]:
    """Return the level of each record's ratios, such that those of one column and run hold together (Bonferroni)."""
    compared = Counter(_run(record) for record in records if record.get("speed") and not record["is_reference"])
    return [1 - _ERROR / max(1, compared[_run(record)]) for record in records]


def _run(record: dict[str, Any]) -> tuple[str, str]:
    return record["run_id"], record["model"]["digest"]


def latest(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the last row of each cell and machine, of rows that are oldest first."""
    return list({(row["config_hash"], row["machine"]): row for row in found}.values())


def readable(records: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Return the records that make a row, and each other's folder with the reason why it does not."""
    kept, refused = [], []
    for record in records:
        try:
            _row(record)
            cell_names([record])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
            refused.append((record["folder"], f"damaged: {type(error).__name__}: {error}"))
        else:
            kept.append(record)
    return kept, refused


def machine(record: dict[str, Any]) -> str:
    """Return a digest of what makes two machines different; versions and commits do not."""
    found = record["environment"]
    parts = [found.get("hostname"), memory_class(found), machine_facts(found)]
    return hashlib.sha256(json.dumps([parts, record["hw"]["name"]], sort_keys=True).encode()).hexdigest()[:8]


def _row(record: dict[str, Any], level: float = 1 - _ERROR) -> dict[str, Any]:
    found = _first_ok(record["benchmarks"])
    load = record["load"] or {}
    speed = speed_row(record, found.get("latency", {}), found.get("agreement", {}), level)
    if speed.get("status") in (WRONG_OUTPUT, INVALID_TIMING):  # then no rate is one of the work that was asked for
        found = {name: entry for name, entry in found.items() if name != "throughput"}
    row: dict[str, Any] = {
        **_identity(record),
        "dtype_note": load.get("dtype_note"),
        "status": record["status"],
        "reason": record["reason"],
        "is_reference": record["is_reference"],
        "load_s": sum(s for phase, s in load["phases_s"].items() if phase != "import") if load else None,
        "import_s": load["phases_s"].get("import") if load else None,
        **speed,
        **start(load, found.get("latency", {})),
        "throughput_tokens_per_s": _figure(found, "throughput", "tokens_per_s"),
        "peak_host_bytes": _figure(found, "memory", "peak_host_bytes"),
        "peak_device_bytes": _figure(found, "memory", "peak_device_bytes"),
        "weight_bytes": load.get("weight_bytes"),
        "weight_disk_bytes": load.get("weight_disk_bytes"),
        **{key: _figure(found, *place) for key, place in _SCORES.items()},
        **_answers(record),
        **score_bounds(record.get("answers")),
        **energy(found.get("throughput", {})),
        **{key: _figure(found, *place) for key, place in _AGREEMENT.items()},
        **_by_normalisation(found),
        "sandbox_note": _figure(found, "code", "sandbox_note"),
        "cache_note": _cache_note(found),
        "agreement_tied_ratio": _tied_ratio(found),
        **_overlap(record),
    }
    row |= money(record, row, found.get("throughput", {}))
    row["peak_note"] = peak_note(record, row["decode_mbu_ratio"], row["prefill_mfu_ratio"])
    replay = record["replay"]
    row["replay_same_top_ratio"] = replay["same_top_tokens"] / replay["tokens"] if replay else None
    return row


def _identity(record: dict[str, Any]) -> dict[str, Any]:
    """Return what was measured, where and when."""
    return {
        "run_id": record["run_id"],
        "record_id": record["record_id"],
        **{key: record["runtime"][key] for key in ("engine", "weights", "placement", "dtype")},
        "runtime": record["runtime"]["name"],
        "model": record["model"]["name"],
        "model_title": record["model"].get("title") or record["model"]["name"],
        "model_digest": record["model"]["digest"],
        "hw": record["hw"]["name"],
        "threads": record["hw"]["threads"],
        "processor": record["environment"].get("processor"),
        "machine": machine(record),
        "machine_description": describe(record["environment"]),
        "load_1min": next(iter(record["environment"].get("load_average") or []), None),
        "started_at": record["started_at"],
        "commit": record["environment"].get("commit"),
        "config_hash": record["config_hash"],
        "command": record["command"],
    }


def _answers(record: dict[str, Any]) -> dict[str, Any]:
    found = (record.get("answers") or {}).get("benchmarks", {})
    choice, code, qa = (found.get(name, {}) for name in ("multiple_choice", "code", "extractive_qa"))
    same = {name: _same_texts(found.get(name, {})) for name in _TEXTS.values()}
    asked = sum(items for _, items in same.values())
    return {
        "mcq_flips_ratio": (choice.get("flips") or {}).get("estimate"),
        "mcq_flips_ratio_high": (choice.get("flips") or {}).get("high"),
        "mcq_p_value": choice.get("p_value_holm"),
        "code_flips_ratio": (code.get("flips") or {}).get("estimate"),
        "qa_flips_ratio": (qa.get("flips") or {}).get("estimate"),
        "same_texts_ratio": sum(equal for equal, _ in same.values()) / asked if asked else None,
        **{key: same[name][0] / same[name][1] if same[name][1] else None for key, name in _TEXTS.items()},
        "perplexity_ratio": (found.get("perplexity", {}).get("perplexity_ratio") or {}).get("estimate"),
        "suspicious_items": len(choice["suspicious_items"]) if "suspicious_items" in choice else None,
        # Items that both were asked, over which the differences are.
        **{f"{score}_items": found.get(name, {}).get("items") for score, (name, _) in SCORES.items()},
        "perplexity_items": found.get("perplexity", {}).get("items"),
    }


def _cache_note(found: dict[str, dict[str, Any]]) -> str | None:
    """Return what was wrong with files of answers and verdicts that were to be reused."""
    keys = ("cache_note", "verdicts_note")
    notes = [note for entry in found.values() for key in keys if (note := entry["figures"].get(key))]
    return "; ".join(dict.fromkeys(notes)) or None


def _by_normalisation(found: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    by_rule = _figure(found, "multiple_choice", "accuracy_by_normalisation") or {}
    return {"mcq_accuracy_unnormalised": by_rule.get("none"), "mcq_accuracy_per_byte": by_rule.get("bytes")}


def _tied_ratio(found: dict[str, dict[str, Any]]) -> float | None:
    tied, positions = _figure(found, "agreement", "tied_positions"), _figure(found, "agreement", "positions")
    return tied / positions if tied is not None and positions else None


def _overlap(record: dict[str, Any]) -> dict[str, Any]:
    """Return the largest share over benchmarks of items that share a passage with a text that the model has seen."""
    found = (record.get("overlap") or {}).get("benchmarks", {}).values()
    return {
        f"{source}_overlap_ratio": max((one[source] for one in found if one[source] is not None), default=None)
        for source in ("calibration", "training")
    }


def _same_texts(figures: dict[str, Any]) -> tuple[int, int]:
    """Return how many texts of a benchmark are the reference's, and of how many; (0, 0) where none were compared."""
    if not figures.get("same_texts"):
        return 0, 0
    return figures["items"] - len(figures["different_items"]), figures["items"]


def _first_ok(benchmarks: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for entry in benchmarks:
        if entry["status"] == "ok":
            found.setdefault(entry["benchmark"], entry)
    return found


def _figure(found: dict[str, dict[str, Any]], benchmark: str, name: str) -> Any:
    return found.get(benchmark, {}).get("figures", {}).get(name)


def _percent(value: float | None, reference: float | None) -> float | None:
    return 100 * value / reference if value is not None and reference else None
