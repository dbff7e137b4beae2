"""Judge estimates of peak memory against measured peaks, on models that no constant was chosen on.

  python -m experiments.validation.memory_estimates
  python -m experiments.validation.memory_estimates half=tuned   # only the models on which constants were chosen

Own options: folder (results/runs/memory-estimates), half (all, tuned or judged), table (results/amd-epyc-2-cores).
Each cell is a process of its own. The same command continues what was interrupted, by a signal or by stop_after_s=N.
It writes memory_estimates.json and
memory_estimates.md into the folder of the table.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.cells.overrides import own_words
from runtime_matrix.experiments.cli.command import run_command
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.program import recorded_command
from runtime_matrix.experiments.execution.progress import Deadline, Progress
from runtime_matrix.experiments.records.environment import environment
from runtime_matrix.experiments.records.processor import describe
from runtime_matrix.experiments.records.schema import Record
from runtime_matrix.experiments.sweeps.measure import measure_cells
from runtime_matrix.experiments.validation.memory_models import MODELS, RandomModel
from runtime_matrix.experiments.validation.memory_table import Judged, markdown

# The first of these builds the graphs that the later ones find: both starts are judged.
RUNTIMES = (
    ("runtime=eager",),
    ("runtime=eager", "runtime.dtype=bfloat16"),
    ("runtime=nf4",),
    ("runtime=eager", "runtime/weights=bnb_int8"),
    ("runtime=torchao_int8",),
    ("runtime=offload",),
    ("runtime=onnxruntime",),
    ("runtime=onnxruntime",),
    ("runtime=onnxruntime_w8",),
    ("runtime=openvino",),
    ("runtime=openvino",),
    ("runtime=llamacpp",),
    ("runtime=llamacpp",),
    ("runtime=llamacpp_q8_0",),
)
SHAPES = ((1, 64), (8, 256), (1, 1024), (4, 128))  # rows and prompt tokens
_NEW_TOKENS = 4
_SHARED = (
    *("benchmark=[memory]", "agreement.enabled=false", "comparison.enabled=false", "responses.mode=never"),
    *("fit=ignore", "resume=true", "monitoring=[]", "time_limit_s=600", f"benchmark.memory.new_tokens={_NEW_TOKENS}"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, judge and write. Return 2 for a user's mistake."""
    return run_command(argv, __doc__, _judge)


def _judge(words: Sequence[str]) -> int:
    own, given = own_words(
        words, {"folder": "results/runs/memory-estimates", "half": "all", "table": "results/amd-epyc-2-cores"}
    )
    if own["half"] not in ("all", "tuned", "judged"):
        raise UserError(f"half={own['half']} is unknown: use all, tuned or judged")
    folder, table = Path(str(own["folder"])), Path(str(own["table"]))
    chosen = [model for model in MODELS if own["half"] in ("all", "judged" if model.is_judged else "tuned")]
    for model in chosen:
        model.write(folder / "models" / model.name)
    jobs = [job for model in chosen for job in _jobs(model, folder)]
    command = recorded_command("validation.memory_estimates", words)
    cells = [plan(compose([*job, *given.overrides]), command) for _, job in jobs]
    with Progress(len(cells)) as progress:
        records = measure_cells(cells, progress, deadline=Deadline(cells[0].config.stop_after_s))
    measured = zip(jobs, cells, records, strict=False)  # there are fewer records if a deadline left cells out
    judged = [_judged(model, cell, record) for (model, _), cell, record in measured]
    text = markdown(judged, command, describe(environment()) or "an unknown machine")
    table.mkdir(parents=True, exist_ok=True)
    (table / "memory_estimates.md").write_text(text, encoding="utf-8")
    content: dict[str, Any] = {"cells": [vars(one) for one in judged]}  # no array: that is a published matrix
    (table / "memory_estimates.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(text)
    return 0


def _jobs(model: RandomModel, folder: Path) -> Iterator[tuple[RandomModel, list[str]]]:
    """Yield the overrides of each cell. Over the models, every runtime meets every shape."""
    start = MODELS.index(model)
    for at, words in enumerate(RUNTIMES):
        rows, tokens = SHAPES[(start + at) % len(SHAPES)]
        sizes = (f"benchmark.memory.batch={rows}", f"benchmark.memory.prompt_tokens={tokens}")
        place = ("model=local", f"model.path={folder / 'models' / model.name}", f"results_dir={folder}")
        yield model, [*words, *place, *sizes, *_SHARED]


def _judged(model: RandomModel, cell: Cell, record: Record) -> Judged:
    entry = record.entries().get("memory")
    bounds = record.memory_estimate.peak_bytes if record.memory_estimate is not None else None
    options = cell.config.benchmark.options["memory"]
    phases = {} if entry is None else entry.figures
    return Judged(
        model=model.name,
        is_judged=model.is_judged,
        weights=model.weights,
        runtime=record.runtime.name,
        dtype=record.runtime.dtype,
        rows=options.batch,
        prompt_tokens=options.prompt_tokens,
        new_tokens=options.new_tokens,
        was_built=bool(record.load is not None and record.load.artifacts.get("built")),
        status=record.status,
        reason=record.reason,
        measured_bytes=phases.get("peak_host_bytes"),
        load_bytes=phases.get("load_peak_host_bytes"),
        low_bytes=None if bounds is None else bounds[0],
        high_bytes=None if bounds is None else bounds[1],
    )


if __name__ == "__main__":
    sys.exit(main())
