"""Estimate the peak memory of a cell before anything is loaded, from what its runtime declares.

The intervals are validated by `experiments/validation/memory_estimates.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from runtime_matrix.experiments.cells.cell import Cell
from runtime_matrix.experiments.config import models
from runtime_matrix.experiments.measurement.memory import available_bytes
from runtime_matrix.experiments.records.schema import MemoryEstimate
from runtime_matrix.experiments.tasks.task import Scenario, Shape
from runtime_matrix.runtimes.base import Engine, Hardware, ModelSource
from runtime_matrix.runtimes.footprint import Load, ModelSizes, sizes_of
from runtime_matrix.runtimes.weights import full

SPREAD = 0.2  # half of an interval's width, as a share of its middle
VALIDATED_BYTES = 100e6  # weights in float32; of smaller models, buffers of libraries are most of the peak
_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}  # by the name in safetensors files


def estimated(cell: Cell, runtime: Engine, hardware: Hardware) -> MemoryEstimate | None:
    """Return the estimate; None if the runtime declares no footprint, or the model's sizes are unknown.

    It covers loads of fixed shape on a CPU: prompts of a timed benchmark, not the texts of a scored one.
    """
    sizes = model_sizes(cell) if hardware.device == "cpu" and cell.adapter is None else None
    if sizes is None:
        return None

    def bounds(shapes: Sequence[Shape]) -> tuple[int, int] | None:
        found = [peak_bytes(runtime, cell.source, sizes, shape, hardware) for shape in shapes]
        known = [peak for peak in found if peak is not None]
        if not known or len(known) < len(found):
            return None
        return round(max(known) * (1 - SPREAD)), round(max(known) * (1 + SPREAD))

    of_memory = [shape for name, shape in _shapes(cell) if name == "memory"]
    of_cell = bounds([shape for _, shape in _shapes(cell)])
    if of_cell is None:
        return None
    return MemoryEstimate(
        peak_bytes=bounds(of_memory),
        cell_peak_bytes=of_cell,
        is_validated=sizes.dense_bytes("float32") >= VALIDATED_BYTES,
        free_bytes=available_bytes(),
    )


def peak_bytes(
    runtime: Engine, model: ModelSource, sizes: ModelSizes, shape: Shape, hardware: Hardware
) -> float | None:
    """Return the middle of the estimate for one load; None if the runtime declares no footprint."""
    load = Load(shape.batch, shape.prompt_tokens, shape.new_tokens)
    footprint = runtime.footprint(model, sizes, load, hardware)
    return None if footprint is None else footprint.peak_bytes


def _shapes(cell: Cell) -> list[tuple[str, Shape]]:
    """Return the loads of fixed shape that the cell runs, with their benchmark."""
    options = cell.config.comparison
    shapes = [
        (task.name, shape)
        for task, config in cell.config.benchmark.items()
        if isinstance(task, Scenario)
        for shape in task.shapes(config)
    ]
    if options.enabled:
        rows = cell.config.batch_size or max(options.batch, options.batched or 0)
        shapes.append(("comparison", Shape(rows, max(options.prompt_tokens), options.new_tokens)))
    return shapes


def model_sizes(cell: Cell) -> ModelSizes | None:
    """Return the sizes of the cell's model; None for packed weights and for a GGUF file."""
    shape, tensors = cell.facts.shape, models.matrices(cell.facts)
    stored = _DTYPES.get(models.stored_dtype(cell.facts) or "")
    if cell.facts.folder is None:
        tensors, stored = _drawn(cell)
    if shape is None or shape.heads is None or tensors is None:
        return None
    return sizes_of(
        tensors,
        vocabulary=shape.vocabulary,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_width=shape.head_width,
        hidden=shape.hidden,
        is_tied=shape.is_tied,
        stored_dtype=stored,
    )


def _drawn(cell: Cell) -> tuple[dict[str, list[int]], str | None]:
    """Return the shapes of a model with random weights, and the dtype of its stored weights; None: they are drawn."""
    outline = full.outline(cell.source, "float32")
    return {name: list(weight.shape) for name, weight in outline.named_parameters()}, full.drawn_dtype(outline)
