"""OpenVINO over the graph that ONNX Runtime runs on a CPU: past in, present out.

The stateful form of the graph, which keeps the past inside OpenVINO, was measured too: it saves 0.1 to 0.3 of 1.1 ms
per token of the bundled model. It is not used, because a branch could not read its prefix without copying it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes import artifacts
from runtime_matrix.runtimes.base import Hardware, ModelSource, Phase, Traits, Unsupported, Weights
from runtime_matrix.runtimes.engines import exported_graph, onnx_graph, openvino_profile
from runtime_matrix.runtimes.engines.exported_graph import ExportedGraph
from runtime_matrix.runtimes.engines.graph_forms import Past
from runtime_matrix.runtimes.engines.past_graph import PastGraph, Tensors
from runtime_matrix.runtimes.footprint import ELEMENT_BYTES, Footprint, Load, ModelSizes
from runtime_matrix.runtimes.operations import Operation
from runtime_matrix.runtimes.weights import full
from runtime_matrix.runtimes.weights.packages import require

_BLOB = "model.blob"
_DEVICE = "CPU"
# Memory, as measured: copies of the matrices (the mapped file, and those packed for its products), activations relative
# to eager PyTorch's, copies of the attention scores, and the rest.
_COPIES, _ACTIVATIONS, _SCORES, _OWN_BYTES = 2.0, 3.8, 5.0, 70 * 2**20
_THREADS = "INFERENCE_NUM_THREADS"
# By dtype: OpenVINO's name, and the capability that a processor without instructions for it lacks.
_DTYPES = {"float32": ("f32", "FP32"), "bfloat16": ("bf16", "BF16"), "float16": ("f16", "FP16")}
_PACKED = frozenset({"u8", "i8", "u4", "i4"})  # precisions of products that read quantized weights
_PRODUCTS = frozenset({"FullyConnected", "MatMul"})


class OpenVino(PastGraph):
    """A model run by OpenVINO on a CPU. Activations are never quantized, which OpenVINO does by default."""

    weight_forms = frozenset({"dense", "onnx"})
    layer_types = ("full_attention", "sliding_attention")
    adapter_modes = frozenset({"merged"})
    distributions = ("openvino", "onnx")

    def __init__(self, dtype: str = "float32", weights: Weights | None = None):
        self._dtype = dtype
        self._weights: Weights = weights or full.Full()
        self._compiled: Any = None
        self._request: Any = None
        self._mapped: Any = None  # the compiled model's file, whose memory OpenVINO uses and does not hold

    @override
    def check(self, hw: Hardware) -> None:
        require("openvino", "openvino")
        onnx_graph.check("openvino", self._weights)
        self._weights.check(hw)
        if getattr(self._weights, "int8_activations", False):
            raise Unsupported(
                "OpenVINO does not quantize activations as these weights ask for: use runtime/weights=w8 or w4"
            )
        if hw.device != "cpu":
            raise Unsupported("OpenVINO has no device for NVIDIA GPUs: use hw=cpu, or runtime=onnxruntime")
        capabilities = _core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
        if self._dtype not in _DTYPES or _DTYPES[self._dtype][1] not in capabilities:
            raise Unsupported(
                f"OpenVINO does not compute in {self._dtype} on this processor, which has {', '.join(capabilities)}: "
                "use runtime.dtype=float32"
            )

    @override
    def footprint(self, model: ModelSource, sizes: ModelSizes, load: Load, hw: Hardware) -> Footprint | None:
        graph = exported_graph.footprint(model, self._weights, self._dtype, sizes, hw, Past())
        if graph is None:
            return None
        matrices = sizes.linear + (sizes.head or sizes.embedding)  # a tied head is packed beside the embedding
        held = (_COPIES * matrices + sizes.embedding + sizes.rest) * ELEMENT_BYTES[self._dtype]
        forward = (
            _ACTIVATIONS * sizes.activation_bytes(load.rows * load.prompt_tokens, self._dtype)
            + _SCORES * sizes.score_bytes(load, self._dtype)
            + 2 * sizes.cache_bytes(load, self._dtype)  # past and present
            + 2 * sizes.logits_bytes(load.rows)
        )
        return Footprint(max(graph.load_bytes, held) + _OWN_BYTES, held + forward + _OWN_BYTES)

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        with phase("import"):
            self.check(hw)  # imports openvino
        graph = exported_graph.load(model, self._weights, self._dtype, hw, phase, Past(), "openvino")
        self._graph, self._options = graph, _options(self._dtype, hw.threads)
        with phase("build"):
            self._blob = self._built(hw)
        with phase("session"):
            self._mapped = _mapped(self._blob)
            self._compiled = self._open({})
            self._check_products(self.products)
            self._request = self._compiled.create_infer_request()
        traits = graph.traits(model, self._dtype)
        return self._describe(graph, replace(traits, build_phases=traits.build_phases | {"build"}))

    @override
    def _execute(self, inputs: Tensors, keep: bool) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        shared = {name: _shared(value) for name, value in inputs.items()}
        results = self._request.infer(shared, share_inputs=True, share_outputs=True)
        # The next call overwrites these outputs, so they are copied. Of bfloat16, NumPy has the bits as float16.
        names = self._names if keep else self._names[:1]
        logits_BKV, *present = (torch.from_numpy(results[name]).clone() for name in names)
        return logits_BKV.view(self._graph.logits_dtype), [held.view(self._graph.dtype) for held in present]

    @override
    def profile(self, work: Callable[[], None]) -> Sequence[Operation]:
        plain = self._request
        self._request = profiled = openvino_profile.Profiled(self._open({"PERF_COUNT": True}).create_infer_request())
        try:
            work()
        finally:
            self._request = plain
        return profiled.operations()

    @property
    def products(self) -> list[tuple[str, str]]:
        """Kind of each matrix product and the precision that it is executed in: that of its weights, if packed."""
        nodes = [operation.get_rt_info() for operation in self._compiled.get_runtime_model().get_ops()]
        named = [(node["layerType"].astype(str), node["runtimePrecision"].astype(str)) for node in nodes]
        return [(kind, precision) for kind, precision in named if kind in _PRODUCTS]

    @override
    def close(self) -> None:
        self._request = self._compiled = None
        self._mapped = None

    def _built(self, hw: Hardware) -> Path:
        """Return the compiled model's file in the artifact cache; compile the graph if it is missing."""
        import openvino

        made_from = {
            "graph": self._graph.folder.name,
            "openvino": openvino.__version__,
            "options": {name: value for name, value in self._options.items() if name != _THREADS},
            "processor": _core().get_property(_DEVICE, "FULL_DEVICE_NAME"),
            "capabilities": sorted(_core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")),
        }

        def build(folder: Path) -> None:
            compiled = compile_graph(self._graph, self._options)
            (folder / _BLOB).write_bytes(compiled.export_model().getbuffer())

        return artifacts.entry(hw.artifacts, "openvino", made_from, build) / _BLOB

    def _check_products(self, products: Sequence[tuple[str, str]]) -> None:
        """Raise Unsupported if OpenVINO computes products in another dtype, or unpacks quantized weights to it."""
        dense = _DTYPES[self._dtype][0]
        other = sorted({precision for _, precision in products} - _PACKED - {dense})
        if other:
            raise Unsupported(
                f"OpenVINO computes this model in {', '.join(other)}, not {self._dtype}: use another dtype"
            )
        unpacked = products.count(("FullyConnected", dense))
        if self._weights.form == "onnx" and unpacked > onnx_graph.dense_products(self._graph.folder):
            raise Unsupported(
                f"OpenVINO unpacks the weights of {unpacked} products to {self._dtype}: use runtime=onnxruntime"
            )

    def _open(self, options: Mapping[str, str | bool]) -> Any:
        """Return the compiled model with more options. The file is the one that was stored: see `artifacts`."""
        try:
            return _core().import_model(self._mapped, _DEVICE, {**self._options, **options})
        except RuntimeError as error:
            raise Unsupported(
                f"OpenVINO cannot load its compiled model: {_reason(error)}: remove {self._blob.parent}, and it is "
                "built again"
            ) from error


def _core() -> Any:
    import openvino

    return openvino.Core()


def _mapped(file: Path) -> Any:
    """Return the bytes of a file as a tensor of OpenVINO, mapped into memory and not read."""
    import numpy
    import openvino

    return openvino.Tensor(numpy.memmap(file, numpy.uint8, "c"), shared_memory=True)


def _options(dtype: str, threads: int) -> dict[str, str | bool]:
    """Return OpenVINO's properties: nothing is approximated, and threads may move, as other processes are measured too.

    By default OpenVINO quantizes activations to int8 in groups of 32 where weights are quantized.
    """
    return {
        _THREADS: str(threads),
        "INFERENCE_PRECISION_HINT": _DTYPES[dtype][0],
        "NUM_STREAMS": "1",
        "ENABLE_CPU_PINNING": False,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    }


def compile_graph(graph: ExportedGraph, options: Mapping[str, str | bool]) -> Any:
    """Return the compiled model of a graph. Raises Unsupported if OpenVINO cannot read or compile it."""
    core = _core()
    try:
        return core.compile_model(core.read_model(graph.path), _DEVICE, dict(options))
    except RuntimeError as error:
        raise Unsupported(
            f"OpenVINO cannot read {graph.path}: {_reason(error)}: use runtime=onnxruntime, or remove the folder to "
            "export it again"
        ) from error


def _shared(value: torch.Tensor) -> Any:
    """Return an input that shares the tensor's memory."""
    import openvino

    if value.dtype != torch.bfloat16:
        return value.numpy()
    return openvino.Tensor(value.view(torch.uint16).numpy(), openvino.Shape(value.shape), openvino.Type.bf16)


def _reason(error: RuntimeError) -> str:
    """Return the last line of OpenVINO's message, which says what is wrong; the first ones name its source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
