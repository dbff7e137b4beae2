"""An exported graph in the artifact cache, as its file describes it: names, shapes and dtypes of inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from runtime_matrix.runtimes.base import Hardware, ModelSource, Phase, Traits, Weights
from runtime_matrix.runtimes.engines import onnx_graph
from runtime_matrix.runtimes.engines.graph_forms import MASK, WINDOW_MASK, Form
from runtime_matrix.runtimes.footprint import ModelSizes, WeightFootprint
from runtime_matrix.runtimes.weights import full
from runtime_matrix.runtimes.weights.packages import import_all

# Shares of the dense weights, as measured: the peak of an export, and what the C library keeps of freed memory then.
_EXPORT_COPIES, _LEFT_BY_EXPORT, _LEFT_BY_PACKING = 2.7, 2.6, 0.65
ELEMENTS = {torch.float32: 1, torch.int64: 7, torch.float16: 10, torch.bfloat16: 16}  # TensorProto.DataType
_DTYPES = {element: dtype for dtype, element in ELEMENTS.items()}


@dataclass(frozen=True)
class ExportedGraph:
    """A graph of one of the forms of `graph_forms`."""

    folder: Path
    held_names: Sequence[str]  # inputs that hold keys and values
    heads: int
    width: int
    dtype: torch.dtype  # of keys and values
    vocabulary: int
    logits_dtype: torch.dtype
    has_positions: bool  # whether positions are an input
    has_mask: bool = True  # whether the mask of layers that see all earlier tokens is an input
    window: int | None = None  # tokens that the mask of windowed layers shows; None: that mask is no input

    @property
    def path(self) -> Path:
        """The file of the graph; its weights are in the same folder."""
        return self.folder / onnx_graph.GRAPH

    def traits(self, model: ModelSource, dtype: str) -> Traits:
        """Return the traits of an engine that computes this graph of `model` in `dtype`."""
        return Traits(
            vocabulary=self.vocabulary,
            max_length=onnx_graph.context_length(model),
            dtype=dtype,
            weight_bytes=onnx_graph.weight_bytes(self.folder),
            weight_disk_bytes=sum(path.stat().st_size for path in self.folder.glob(f"{onnx_graph.GRAPH}*")),
            notes=full.notes(model, dtype),
            build_phases=frozenset({"export"}),
        )


def load(
    model: ModelSource,
    weights: Weights,
    dtype: str,
    hw: Hardware,
    phase: Phase,
    form: Form,
    package: str,
) -> ExportedGraph:
    """Export the model, or find it exported, in the phases import and export; `package` is the one that runs it.

    Raises Unsupported for a model that cannot be exported.
    """
    torch.set_num_threads(hw.threads)
    with phase("import"):
        import_all(("onnx", package))
    with phase("export"):
        return read(onnx_graph.exported(model, weights, dtype, hw, phase, form), onnx_graph.window(model))


def footprint(
    model: ModelSource, weights: Weights, dtype: str, sizes: ModelSizes, hw: Hardware, form: Form
) -> WeightFootprint | None:
    """Return what an engine holds that keeps the weights of this graph, with the export if it is missing."""
    declared = getattr(weights, "footprint", None)
    if declared is None:
        return None
    own: WeightFootprint = declared(sizes, dtype)
    folder, has_dense = onnx_graph.stored(model, weights, dtype, hw, form)
    if folder is not None:
        return replace(own, load_bytes=own.held_bytes)
    dense = sizes.dense_bytes(dtype)
    peak = left = own.held_bytes
    if not has_dense:
        peak, left = _EXPORT_COPIES * dense, _LEFT_BY_EXPORT * dense
    if weights.form == "onnx":
        peak, left = max(peak, own.load_bytes), max(left, own.held_bytes + _LEFT_BY_PACKING * dense)
    return replace(own, held_bytes=left, load_bytes=max(peak, left))


def read(folder: Path, window: int | None = None) -> ExportedGraph:
    """Return what the file of a graph says about it; weights are not read. `window` is that of the model, if any."""
    import onnx

    graph = onnx.load(folder / onnx_graph.GRAPH, load_external_data=False).graph
    inputs, outputs = ({value.name: value.type.tensor_type for value in side} for side in (graph.input, graph.output))
    held_names = [name for name in inputs if name.startswith(("key.", "value."))]
    held, logits = inputs[held_names[0]], outputs["logits"]
    return ExportedGraph(
        folder,
        held_names,
        heads=held.shape.dim[1].dim_value,
        width=held.shape.dim[3].dim_value,
        dtype=_DTYPES[held.elem_type],
        vocabulary=logits.shape.dim[-1].dim_value,
        logits_dtype=_DTYPES[logits.elem_type],
        has_positions="positions" in inputs,
        has_mask=MASK in inputs,
        window=window if WINDOW_MASK in inputs else None,
    )
