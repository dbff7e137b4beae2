"""The matrix: one row per record, derived on reading. Unknown values are None.

Percentiles, ratios and bounds are computed here from raw samples and are not stored.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec.structs import replace

from runtime_matrix.experiments.analysis.audit import audit
from runtime_matrix.experiments.analysis.costs import break_even, energy, money, start
from runtime_matrix.experiments.analysis.expected import expected_note
from runtime_matrix.experiments.analysis.rates import rates
from runtime_matrix.experiments.analysis.roofline import peak_note
from runtime_matrix.experiments.analysis.score_bounds import comparison_figures
from runtime_matrix.experiments.analysis.sharded import sharded, shards_note
from runtime_matrix.experiments.analysis.speed_row import speed_row
from runtime_matrix.experiments.analysis.without_adapter import with_bases
from runtime_matrix.experiments.cells.identity import cell_names, variants
from runtime_matrix.experiments.records.comparison import Result
from runtime_matrix.experiments.records.environment import machine_facts, memory_class
from runtime_matrix.experiments.records.processor import describe
from runtime_matrix.experiments.records.row import Figures, Row
from runtime_matrix.experiments.records.schema import (
    FAILED_TIMING,
    Entry,
    Environment,
    Load,
    MemoryEstimate,
    Overlap,
    Record,
)
from runtime_matrix.experiments.tasks.registry import every_task, scores
from runtime_matrix.experiments.tasks.task import Scenario

_ERROR = 0.05  # family-wise error rate of the intervals in a column of ratios


def rows(results: Sequence[Result], all: bool = False) -> list[Row]:
    """Return one row per cell and machine from its latest record; with `all`, one row per record.

    A row's `config_hash` identifies its cell across versions of this program; a record's may differ between versions.
    """
    records = [result.record for result in results]
    names, missing = cell_names(records), _missing_cells(records)
    matrix = [
        replace(_row(result, level, missing(result.record)), config_hash=name, variant=variant)
        for result, level, name, variant in zip(results, _levels(results), names, variants(records, names), strict=True)
    ]
    references = {_group(row): row for row in matrix if row.is_reference and row.status == "ok"}
    matrix = with_bases([_beside(row, references.get(_group(row))) for row in matrix])
    return matrix if all else latest(matrix)


def _group(row: Row) -> tuple[str, str, str]:
    """Return what a row shares with its reference."""
    return row.run_id, row.model_digest, row.strategy


def _beside(row: Row, reference: Row | None) -> Row:
    """Return the row with the figures that compare it with the reference's row."""
    percents = {
        f"{key}_percent_of_reference": _percent(row.get(key), reference.get(key) if reference is not None else None)
        for key in (score.metric for score in scores().values())
    }
    return replace(row, figures={**row.figures, **percents, **break_even(row, reference)})


def _missing_cells(records: Sequence[Record]) -> Callable[[Record], int | None]:
    """Return a function from a record to the missing cells of its sweep; None for records without a sweep."""
    present: dict[str, set[int]] = {}
    for record in records:
        if record.sweep is not None and record.status != "interrupted":
            present.setdefault(record.sweep.id, set()).add(record.sweep.index)

    def missing(record: Record) -> int | None:
        return None if record.sweep is None else record.sweep.cells - len(present.get(record.sweep.id, ()))

    return missing


def _levels(results: Sequence[Result]) -> list[float]:
    """Return each record's level of confidence, so that the ratios of a column and run hold together (Bonferroni)."""
    compared = Counter(_run(result) for result in results if result.speed and not result.record.is_reference)
    return [1 - _ERROR / max(1, compared[_run(result)]) for result in results]


def _run(result: Result) -> tuple[str, str]:
    return result.record.run_id, result.record.model.digest


def latest(matrix: Iterable[Row]) -> list[Row]:
    """Return the last row of each cell and machine. The rows are oldest first."""
    return list({(row.config_hash, row.machine): row for row in matrix}.values())


def readable(results: Sequence[Result]) -> tuple[list[Result], list[tuple[str, str]]]:
    """Return the records that can become a row, and the folders of the others with the reason.

    Records are typed, but their open parts, such as figures and configurations, may still be malformed.
    """
    valid, refused = [], []
    for result in results:
        try:
            _row(result)
            cell_names([result.record])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
            refused.append((str(result.folder), f"damaged: {type(error).__name__}: {error}"))
        else:
            valid.append(result)
    return valid, refused


def machine(environment: Environment, hw: str) -> str:
    """Return a digest of the machine and its profile `hw`. Versions and commits are not part of it."""
    parts = [environment.hostname, memory_class(environment), machine_facts(environment)]
    return hashlib.sha256(json.dumps([parts, hw], sort_keys=True).encode()).hexdigest()[:8]


def _row(result: Result, level: float = 1 - _ERROR, missing_cells: int | None = None) -> Row:
    record, diff = result.record, result.diff
    entries = record.entries()
    audited = audit(record, result.speed)
    speed = speed_row(result, entries.get("latency"), entries.get("agreement"), level, audited)
    if speed.status in FAILED_TIMING:  # no rate of wrong work is shown
        entries.pop("throughput", None)
    throughput = entries.get("throughput")
    price = money(record, result.speed, speed.figures, throughput)
    joules, energy_reason = energy(throughput)
    kind, build_s = start(record.load, entries.get("latency"))
    figures = {
        **_benchmark_figures(record, entries, is_timing_wrong=speed.status in FAILED_TIMING),
        **_load_figures(record.load),
        **_estimate(record.memory_estimate),
        "freed_host_bytes": record.freed.host_bytes if record.freed else None,
        "freed_device_bytes": record.freed.device_bytes if record.freed else None,
        **speed.figures,
        "build_s": build_s,
        **comparison_figures(diff),
        "energy_j_per_token": joules,
        **_overlap(record.overlap),
        **price.figures,
        **rates(record, entries),
        **sharded(record),
        "replay_same_top_ratio": record.replay.same_top_tokens / record.replay.tokens if record.replay else None,
        "load_1min": next(iter(record.environment.load_average), None),
        "sweep_missing_cells": missing_cells,
    }
    return replace(
        _facts(record),
        status=speed.status or record.status,
        reason=speed.reason if speed.status else record.reason,
        against=diff.against if diff is not None else None,
        latency_source=speed.latency_source,
        price_source=price.source,
        start_kind=kind,
        speedup_reason=speed.speedup_reason,
        cpu_speedup_reason=speed.cpu_speedup_reason,
        speed_note=speed.speed_note,
        peak_note=peak_note(record, figures["decode_mbu_ratio"], figures["prefill_mfu_ratio"]),
        energy_reason=energy_reason,
        sandbox_note=_notes(entries, "sandbox_note"),
        cache_note=_notes(entries, "cache_note", "verdicts_note", "judge_cache_note"),
        judge_note=_notes(entries, "judge_note"),
        answers_note=_notes(entries, "unscored"),
        shards_note=shards_note(record),
        second_try_note=_second_try_note(record),
        expected_note=expected_note(record, figures),
        audit=audited.verdict if record.status == "ok" else None,
        audit_note=audited.note if record.status == "ok" else None,
        figures=figures,
    )


def _facts(record: Record) -> Row:
    """Return a row without figures: the facts of the cell and its machine."""
    return Row(
        run_id=record.run_id,
        record_id=record.record_id,
        started_at=record.started_at,
        runtime=record.runtime.name,
        engine=record.runtime.engine,
        weights=record.runtime.weights,
        placement=record.runtime.placement,
        dtype=record.runtime.dtype,
        model=record.model.name,
        model_title=record.model.title or record.model.name,
        model_digest=record.model.digest,
        adapter=record.model.adapter.name if record.model.adapter else None,
        base_digest=record.model.adapter.base_digest if record.model.adapter else None,
        hw=record.hw.name,
        threads=record.hw.threads,
        machine=machine(record.environment, record.hw.name),
        config_hash=record.config_hash,
        command=record.command,
        is_reference=record.is_reference,
        status=record.status,
        strategy=record.strategy,
        processor=record.environment.processor or None,
        machine_description=describe(record.environment),
        commit=record.environment.commit,
        dtype_note=record.load.dtype_note if record.load else None,
    )


def _second_try_note(record: Record) -> str | None:
    if record.second_try is None:
        return None
    return f"a second try, because the first ran out of memory: {record.second_try.halved}"


def _load_figures(load: Load | None) -> Figures:
    phases = load.phases_s if load is not None else {}
    return {
        # Of a merged cell that loaded nothing, no phases are known.
        "load_s": sum(s for phase, s in phases.items() if phase != "import") if phases else None,
        "import_s": phases.get("import"),
        "weight_bytes": load.weight_bytes if load is not None else None,
        "weight_disk_bytes": load.weight_disk_bytes if load is not None else None,
        "kv_bytes_per_token": load.kv_bytes_per_token if load is not None else None,
    }


def _estimate(estimate: MemoryEstimate | None) -> Figures:
    """Return the interval that was estimated for the measured peak, and its middle."""
    low, high = (estimate.peak_bytes if estimate is not None else None) or (None, None)
    middle = None if low is None or high is None else (low + high) / 2
    return {"estimated_peak_bytes": middle, "estimated_peak_bytes_low": low, "estimated_peak_bytes_high": high}


def _benchmark_figures(record: Record, entries: Mapping[str, Entry], is_timing_wrong: bool) -> Figures:
    """Return the figures of all benchmarks' metrics, those of further grid points included.

    If the timed work was wrong, benchmarks that time rounds have no figures.
    """
    figures: Figures = {}
    for name, task in every_task().items():
        is_withheld = is_timing_wrong and isinstance(task, Scenario) and task.times_rounds
        entry = None if is_withheld else entries.get(name)
        for metric in task.metrics:
            figures |= metric.figures(entry)
        for key in task.further_keys(entry) if entry is not None else ():
            if (further := task.further(key)) is not None:
                figures |= further.figures(entry)
        for other in () if is_withheld else record.further_entries(name):
            for metric in task.metrics:
                figures |= {
                    key: value for key, value in metric.at(other.point).figures(other).items() if value is not None
                }
    return figures


def _notes(entries: Mapping[str, Entry], *keys: str) -> str | None:
    """Return the notes of the benchmarks' entries under these keys, without duplicates."""
    notes = [note for entry in entries.values() for key in keys if (note := entry.note(key))]
    return "; ".join(dict.fromkeys(notes)) or None


def _overlap(overlap: Overlap | None) -> Figures:
    """Return the largest share over benchmarks of items that overlap with the calibration and training texts."""
    shares = overlap.benchmarks.values() if overlap is not None else ()
    return {
        "calibration_overlap_ratio": max(
            (share.calibration for share in shares if share.calibration is not None), default=None
        ),
        "training_overlap_ratio": max((share.training for share in shares if share.training is not None), default=None),
    }


def _percent(value: float | None, reference: float | None) -> float | None:
    return 100 * value / reference if value is not None and reference else None
