"""Compare the measured cells of a sweep with their reference, in outputs and in speed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime_matrix.experiments.analysis.paired_outputs import compare
from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.config.schema import ComparisonConfig
from runtime_matrix.experiments.execution.progress import Deadline
from runtime_matrix.experiments.records.comparison import Launch
from runtime_matrix.experiments.records.journal import plain
from runtime_matrix.experiments.records.ratios import Clock, ratio
from runtime_matrix.experiments.records.schema import Record, to_plain
from runtime_matrix.experiments.records.store import OUTPUT_DIFF_FILE, read_speed, write_atomic
from runtime_matrix.experiments.timing.interleave import compare_speed
from runtime_matrix.experiments.timing.runner import Runner, Tick

_CLOCK = Clock.WALL  # as in the matrix
Log = Callable[[str], None]


def compare_with_reference(
    cells: Sequence[Cell],
    records: Sequence[Record],
    results: Path,
    log: Log,
    deadline: Deadline | None = None,
    tick: Tick = lambda: None,
) -> bool:
    """Write `output_diff.json` and `speed.json` beside the record of each cell whose reference was measured too.

    Return False if the deadline left launches out.
    """
    groups: dict[tuple[object, ...], list[tuple[Cell, Record]]] = {}
    for cell, record in zip(cells, records, strict=True):
        if record.status == "ok":
            key = (record.model.digest, record.hw.name, record.strategy, record.max_tokens)
            groups.setdefault(key, []).append((cell, record))
    for group in groups.values():
        references = [pair for pair in group if pair[1].is_reference]
        others = [pair for pair in group if not pair[1].is_reference]
        if references and others:
            _compare_group(references[0], others, results, log, deadline, tick)
    return deadline is None or not deadline.is_over()


def _compare_group(
    reference: tuple[Cell, Record],
    others: Sequence[tuple[Cell, Record]],
    results: Path,
    log: Log,
    deadline: Deadline | None,
    tick: Tick,
) -> None:
    candidates = candidates_of(reference, others, results)
    if candidates:
        runner = Runner(reference[0], results / reference[1].record_id)
        compare_launches(reference[1].runtime.name, runner, candidates, log, deadline, tick)


def candidates_of(reference: tuple[Cell, Record], others: Sequence[tuple[Cell, Record]], results: Path) -> list[Runner]:
    """Compare the outputs of the others with the reference's, and return those whose speed is to be compared yet."""
    cell, reference_record = reference
    for _, record in others:
        compare_outputs(record, reference_record, results)
    options = cell.config.comparison
    # A resumed cell may have its comparison.
    candidates = [
        Runner(other, results / record.record_id)
        for other, record in others
        if not _is_compared(results / record.record_id, reference_record, options)
    ]
    return candidates if options.enabled else []


def compare_launches(
    name: str, reference: Runner, candidates: Sequence[Runner], log: Log, deadline: Deadline | None, tick: Tick
) -> None:
    """Time the candidates in turns with the reference, called `name`, and write `speed.json` beside their records."""

    def on_launch(done: int, launches: Sequence[Launch]) -> None:
        speedup = ratio(launches, "decode", _CLOCK)
        suffix = f", decode {speedup.estimate:.2f}× [{speedup.low:.2f}, {speedup.high:.2f}]" if speedup else ""
        log(f"speed against {name}: launch {done}{suffix}")

    log(f"speed against {name}")
    compare_speed(
        reference,
        candidates,
        reference.cell.config.comparison,
        _CLOCK,
        on_launch,
        deadline=deadline,
        tick=tick,
        fork=reference.cell.config.launch == "fork",
    )


def _is_compared(folder: Path, reference: Record, options: ComparisonConfig) -> bool:
    """Return whether a resumed cell has a complete comparison with this reference and the same options."""
    speed = read_speed(folder)
    if (
        speed is None
        or speed.against != reference.record_id
        or speed.options != plain(options)
        or speed.reason is not None
    ):
        return False
    # A deadline may have ended the comparison early.
    return len(speed.launches) >= (options.launches or 2)


def compare_outputs(record: Record, reference: Record, results: Path) -> None:
    """Write `output_diff.json` for a record; both records are in `results`."""
    folder = results / record.record_id
    diff = compare(record, reference, folder, results / reference.record_id)
    write_atomic(folder / OUTPUT_DIFF_FILE, json.dumps(to_plain(diff), indent=1, allow_nan=False) + "\n")
