"""What a sweep adds when its cells are measured: each against the reference, in answers and in speed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.cells.plan import Cell
from runtime_matrix.experiments.comparison.answers import compare
from runtime_matrix.experiments.comparison.speed import compare_speed
from runtime_matrix.experiments.comparison.workers import Runner, Tick
from runtime_matrix.experiments.config import ComparisonConfig
from runtime_matrix.experiments.progress import Deadline
from runtime_matrix.experiments.records.journal import plain
from runtime_matrix.experiments.records.speed import Clock, ratio
from runtime_matrix.experiments.records.store import ANSWERS_FILE, SPEED_FILE, SPEED_SCHEMA_VERSION, write_atomic

_CLOCK = Clock.WALL  # of the matrix
Say = Callable[[str], None]


def compare_with_reference(
    cells: Sequence[Cell],
    records: Sequence[dict[str, Any]],
    results: Path,
    say: Say,
    deadline: Deadline | None = None,
    tick: Tick = lambda: None,
) -> bool:
    """Write `answers.json` and `speed.json` beside the record of each cell that ran as its reference did.

    Return False when the deadline left launches out.
    """
    groups: dict[tuple[str, str], list[tuple[Cell, dict[str, Any]]]] = {}
    for cell, record in zip(cells, records, strict=True):
        if record["status"] == "ok":
            groups.setdefault((record["model"]["digest"], record["hw"]["name"]), []).append((cell, record))
    for group in groups.values():
        references = [pair for pair in group if pair[1]["is_reference"]]
        others = [pair for pair in group if not pair[1]["is_reference"]]
        if references and others:
            _compare_group(references[0], others, results, say, deadline, tick)
    return deadline is None or not deadline.is_over()


def _compare_group(
    reference: tuple[Cell, dict[str, Any]],
    others: Sequence[tuple[Cell, dict[str, Any]]],
    results: Path,
    say: Say,
    deadline: Deadline | None,
    tick: Tick,
) -> None:
    cell, reference_record = reference
    home = results / reference_record["record_id"]
    for _, record in others:
        compare_answers(record, reference_record, results)
    options = cell.config.comparison
    candidates = [
        Runner(other, results / record["record_id"])
        for other, record in others
        if not _is_compared(results / record["record_id"], options)  # resumed
    ]
    if not options.enabled or not candidates:
        return

    def on_launch(done: int, launches: list[dict[str, Any]]) -> None:
        found = ratio(launches, "decode", _CLOCK)
        shown = f", decode {found.estimate:.2f}× [{found.low:.2f}, {found.high:.2f}]" if found else ""
        say(f"speed against {reference_record['runtime']['name']}: launch {done}{shown}")

    say(f"speed against {reference_record['runtime']['name']}")
    compare_speed(
        Runner(cell, home),
        candidates,
        options,
        _CLOCK,
        on_launch,
        deadline=deadline,
        tick=tick,
        fork=cell.config.launch == "fork",
    )


def _is_compared(folder: Path, options: ComparisonConfig) -> bool:
    """Say whether a resumed cell has what these options ask for; with others it is compared again."""
    try:
        kept = json.loads((folder / SPEED_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    is_current = kept.get("schema_version") == SPEED_SCHEMA_VERSION
    is_asked = kept.get("options") == json.loads(json.dumps(asdict(options)))
    # A deadline may have ended a comparison after fewer launches than were asked for.
    is_whole = len(kept.get("launches") or ()) >= (options.launches or 2)
    return is_current and is_asked and is_whole and kept.get("reason") is None


def compare_answers(record: dict[str, Any], reference: dict[str, Any], results: Path) -> dict[str, Any]:
    """Write and return what `answers.compare` finds for two records that lie below `results`."""
    folders = [results / one["record_id"] for one in (record, reference)]
    content: dict[str, Any] = {"schema_version": 1, "against": reference["record_id"]}
    content |= compare(record, reference, *folders)
    content["reason"] = "; ".join(content["reasons"].values()) or None
    kept: dict[str, Any] = plain(content)  # logits that are NaN must not end the sweep
    write_atomic(folders[0] / ANSWERS_FILE, json.dumps(kept, indent=1, allow_nan=False) + "\n")
    return kept
