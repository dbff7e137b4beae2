"""A first verdict while a sweep runs: the first cell against the reference, from a few short launches.

It is printed and not stored; the matrix shows the comparison of all cells at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from runtime_matrix.experiments.analysis.matrix import rows
from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.cells.halving import as_run
from runtime_matrix.experiments.execution.progress import Deadline
from runtime_matrix.experiments.records.comparison import Launch
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.records.store import SPEED_FILE, attach
from runtime_matrix.experiments.reports.verdict import compared_words
from runtime_matrix.experiments.sweeps.after_sweep import compare_outputs
from runtime_matrix.experiments.timing.interleave import speed_content
from runtime_matrix.experiments.timing.launch import launch
from runtime_matrix.experiments.timing.runner import Runner, Tick

_LAUNCHES, _ROUNDS = 3, 4


class FirstLook:
    """Receives the records of a sweep and prints one verdict while cells remain.

    `note` replaces the progress line; `tell` prints a line that stays.
    """

    def __init__(self, cells: Sequence[Cell], results: Path, note: Callable[[str], None], tell: Callable[[str], None]):
        self._cells, self._results, self._note, self._tell = list(cells), results, note, tell
        self._measured: list[tuple[Cell, Record]] = []
        self._is_over = not (cells[0].config.comparison.enabled and cells[0].config.comparison.first_look)

    def record(self, record: Record, deadline: Deadline, tick: Tick) -> None:
        """Add the record of the next cell, and compare if it completes the first pair."""
        cell = as_run(self._cells[len(self._measured)], record)
        self._measured.append((cell, record))
        is_last = len(self._measured) == len(self._cells)
        pair = None if self._is_over or is_last or deadline.is_over() else self._pair(record)
        if pair is not None:
            self._is_over = True
            self._compare(*pair, tick)

    def _pair(self, record: Record) -> tuple[tuple[Cell, Record], tuple[Cell, Record]] | None:
        """Return the reference and the first other cell of the record's kind; None until both are measured.

        Cells of a kind have one model, hardware profile and strategy.
        """
        alike = [
            (cell, other)
            for cell, other in self._measured
            if other.status == "ok"
            and (other.model.digest, other.hw.name, other.strategy, other.max_tokens)
            == (record.model.digest, record.hw.name, record.strategy, record.max_tokens)
        ]
        reference = next((pair for pair in alike if pair[1].is_reference), None)
        other = next((pair for pair in alike if not pair[1].is_reference), None)
        if reference is None or other is None or (self._results / other[1].record_id / SPEED_FILE).exists():
            return None  # in the last case the cell was resumed with its comparison
        return reference, other

    def _compare(self, reference: tuple[Cell, Record], other: tuple[Cell, Record], tick: Tick) -> None:
        (cell, reference_record), (candidate, record) = reference, other
        name = reference_record.runtime.name
        self._note(f"first look: {record.runtime.name} against {name}")
        options = replace(
            cell.config.comparison,
            rounds=_ROUNDS,
            warmup=1,
            batched=None,
            long_new_tokens=None,
            serving_concurrency=None,
            observed_responses=None,
            one_thread_rounds=0,
        )
        runners = [
            Runner(cell, self._results / reference_record.record_id),
            Runner(candidate, self._results / record.record_id),
        ]
        fork = cell.config.launch == "fork"
        launches: list[Launch] = []
        failures: dict[int, str] = {}
        while len(launches) < _LAUNCHES and not failures:
            measured = launch(runners, options, tick, fork)
            failures = measured.failures
            if not failures:
                launches.append(measured.stored(1))
        reason = "; ".join(
            f"{runners[index].cell.config.runtime.title}: {failure}" for index, failure in failures.items()
        )
        compare_outputs(record, reference_record, self._results)
        first, second = attach([reference_record, record], self._results)
        # The row applies the usual checks, so no speed is shown for wrong outputs.
        speed = speed_content(runners[0], runners[1], options, launches, fork, reason or None)
        words = compared_words(rows([first, replace(second, speed=speed)], all=True)[1], name)
        left = len(self._cells) - len(self._measured)
        self._tell(f"first look, {_LAUNCHES} short launches: {words}; {left} of {len(self._cells)} cells remain")
