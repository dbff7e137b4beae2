"""The matrix: one row a record, derived on reading. Unknown is None.

Percentiles, ratios and bounds are statistics, from `measurement`, and are not stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from experiments.measurement.statistics import percentile
from experiments.records.costs import energy, money, pays_after
from experiments.records.environment import machine_facts
from experiments.records.identity import cell_names
from experiments.records.processor import describe
from experiments.records.roofline import flops_ratio, memory_bandwidth_ratio, peak_note
from experiments.records.score_bounds import score_bounds
from experiments.records.speed import memory_ratio, ratio

NOT_INTERLEAVED = "not interleaved"


def rows(records: Sequence[dict[str, Any]], all: bool = False) -> list[dict[str, Any]]:
    """Return one row a cell and machine, the latest record of each; with `all` one a record.

    A row's `config_hash` is the name of its cell, the same over versions of this program; a record's is its own.
    """
    made = [{**_row(record), "config_hash": name} for record, name in zip(records, cell_names(records), strict=True)]
    references = {(r["run_id"], r["model_digest"]): r for r in made if r["is_reference"] and r["status"] == "ok"}
    for row in made:
        reference = references.get((row["run_id"], row["model_digest"]), {})
        for score in ("perplexity", "mcq_accuracy", "code_pass_at_1", "qa_f1", "rouge_l"):
            row[f"{score}_percent_of_reference"] = _percent(row[score], reference.get(score))
        row |= pays_after(row, reference)
    return made if all else latest(made)


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
    parts = [found.get("hostname"), found.get("memory_bytes"), machine_facts(found)]
    return hashlib.sha256(json.dumps([parts, record["hw"]["name"]], sort_keys=True).encode()).hexdigest()[:8]


def _row(record: dict[str, Any]) -> dict[str, Any]:
    found = _first_ok(record["benchmarks"])
    load = record["load"] or {}
    row: dict[str, Any] = {
        "run_id": record["run_id"],
        "record_id": record["record_id"],
        **{key: record["runtime"][key] for key in ("engine", "weights", "placement", "dtype")},
        "runtime": record["runtime"]["name"],
        "model": record["model"]["name"],
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
        "dtype_note": load.get("dtype_note"),
        "status": record["status"],
        "reason": record["reason"],
        "is_reference": record["is_reference"],
        "load_s": sum(s for phase, s in load["phases_s"].items() if phase != "import") if load else None,
        "import_s": load["phases_s"].get("import") if load else None,
        **_speed(record, found.get("latency", {})),
        "throughput_tokens_per_s": _figure(found, "throughput", "tokens_per_s"),
        **_speedup(record),
        **_memory(record),
        "peak_host_bytes": _figure(found, "memory", "peak_host_bytes"),
        "peak_device_bytes": _figure(found, "memory", "peak_device_bytes"),
        "weight_bytes": load.get("weight_bytes"),
        "weight_disk_bytes": load.get("weight_disk_bytes"),
        "perplexity": _figure(found, "perplexity", "perplexity"),
        "perplexity_standard_error": _figure(found, "perplexity", "standard_error"),
        "perplexity_per_byte": _figure(found, "perplexity", "per_byte"),
        "mcq_accuracy": _figure(found, "multiple_choice", "accuracy"),
        "mcq_accuracy_standard_error": _figure(found, "multiple_choice", "standard_error"),
        "code_pass_at_1": _figure(found, "code", "pass_at_1"),
        "code_pass_at_1_standard_error": _figure(found, "code", "pass_at_1_standard_error"),
        "qa_exact_match": _figure(found, "extractive_qa", "exact_match"),
        "qa_exact_match_standard_error": _figure(found, "extractive_qa", "exact_match_standard_error"),
        "qa_f1": _figure(found, "extractive_qa", "f1"),
        "qa_f1_standard_error": _figure(found, "extractive_qa", "f1_standard_error"),
        "rouge_1": _figure(found, "summarization", "rouge1"),
        "rouge_2": _figure(found, "summarization", "rouge2"),
        "rouge_l": _figure(found, "summarization", "rougeL"),
        "rouge_l_standard_error": _figure(found, "summarization", "rougeL_standard_error"),
        **_answers(record),
        **score_bounds(record.get("answers")),
        **money(record, found.get("throughput", {})),
        **energy(found.get("throughput", {})),
        "kl_mean": _figure(found, "divergence", "kl_mean"),
        "kl_standard_error": _figure(found, "divergence", "kl_standard_error"),
        "kl_p99": _figure(found, "divergence", "kl_p99"),
        "divergence_same_top_ratio": _figure(found, "divergence", "same_top_ratio"),
        "agreement_same_top_ratio": _figure(found, "agreement", "same_top_ratio"),
        "agreement_max_logit_difference": _figure(found, "agreement", "max_logit_difference"),
    }
    row["peak_note"] = peak_note(record, row["decode_mbu_ratio"], row["prefill_mfu_ratio"])
    replay = record["replay"]
    row["replay_same_top_ratio"] = replay["same_top_tokens"] / replay["tokens"] if replay else None
    return row


def _speed(record: dict[str, Any], latency: dict[str, Any]) -> dict[str, Any]:
    samples, shape = latency.get("samples", {}), latency.get("parameters", {})
    ttft, tpot = samples.get("ttft_s", []), samples.get("tpot_s", [])
    ttft_p50, tpot_p50 = percentile(ttft, 50), percentile(tpot, 50)
    prefill = shape["batch"] * shape["prompt_tokens"] / ttft_p50 if ttft_p50 else None
    return {
        "first_call_s": latency.get("figures", {}).get("first_call_s"),
        "ttft_s_p50": ttft_p50,
        "ttft_samples": len(ttft) or None,
        "tpot_s_p50": tpot_p50,
        "tpot_s_p95": percentile(tpot, 95),
        "tpot_samples": len(tpot) or None,
        "prefill_tokens_per_s": prefill,
        "decode_tokens_per_s": shape["batch"] / tpot_p50 if tpot_p50 else None,
        "decode_mbu_ratio": memory_bandwidth_ratio(record, tpot_p50, shape),
        "prefill_mfu_ratio": flops_ratio(record, prefill),
    }


def _speedup(record: dict[str, Any]) -> dict[str, Any]:
    """Return the interleaved ratios to the reference; null, with the reason, where nothing was interleaved."""
    stored = record.get("speed") or {}
    launches = stored.get("launches", [])
    clock = "wall_s" if (record["load"] or {}).get("device") == "cuda" else "cpu_s"
    row: dict[str, Any] = {"speedup_launches": len(launches) or None, "speedup_clock": clock if launches else None}
    for phase, name in (("decode", "speedup_ratio"), ("prefill", "prefill_speedup_ratio")):
        found = ratio(launches, phase, clock)
        row[name] = found.estimate if found else None
        row[f"{name}_low"], row[f"{name}_high"] = (found.low, found.high) if found else (None, None)
    row["speedup_load_1min"] = max((one["load_1min"] for one in launches), default=None)
    row["speedup_reason"] = None if row["speedup_ratio"] else stored.get("reason") or NOT_INTERLEAVED
    return row


def _memory(record: dict[str, Any]) -> dict[str, Any]:
    """Return the ratio of peaks of whole processes, over launches."""
    launches = (record.get("speed") or {}).get("launches", [])
    found = memory_ratio(launches) if launches else None
    low, high = (found.low, found.high) if found else (None, None)
    return {"memory_ratio": found.estimate if found else None, "memory_ratio_low": low, "memory_ratio_high": high}


def _answers(record: dict[str, Any]) -> dict[str, Any]:
    found = (record.get("answers") or {}).get("benchmarks", {})
    choice, code, qa = (found.get(name, {}) for name in ("multiple_choice", "code", "extractive_qa"))
    texts = [found[name]["same_texts"] for name in ("code", "extractive_qa", "summarization") if name in found]
    return {
        "mcq_flips_ratio": (choice.get("flips") or {}).get("estimate"),
        "mcq_flips_ratio_high": (choice.get("flips") or {}).get("high"),
        "mcq_p_value": choice.get("p_value_holm"),
        "code_flips_ratio": (code.get("flips") or {}).get("estimate"),
        "qa_flips_ratio": (qa.get("flips") or {}).get("estimate"),
        "same_texts_ratio": min((one["estimate"] for one in texts if one), default=None),
        "perplexity_ratio": (found.get("perplexity", {}).get("perplexity_ratio") or {}).get("estimate"),
        "suspicious_items": len(choice["suspicious_items"]) if "suspicious_items" in choice else None,
    }


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
