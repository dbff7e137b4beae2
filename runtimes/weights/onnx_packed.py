"""Quantization of exported ONNX graphs by ONNX Runtime: dynamic int8, and 4 or 8 bits in blocks (MatMulNBits)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from runtime_matrix.runtimes.base import Hardware, LoadRequest, Unsupported
from runtime_matrix.runtimes.footprint import ELEMENT_BYTES, ModelSizes, WeightFootprint
from runtime_matrix.runtimes.weights import full
from runtime_matrix.runtimes.weights.packages import require

_GRAPH = "model.onnx"
# Values of MatMulNBits' attribute `accuracy_level`: the dtype of the activations.
_FLOAT = 1  # float32
_INT8 = 4  # int8


class _InGraph:
    """Base class of weights that are loaded dense and quantized in the exported graph."""

    form: ClassVar[str] = "onnx"
    keeps_values: ClassVar[bool] = False
    needs_calibration: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    def check(self, hw: Hardware) -> None:
        """Raise Unsupported if ONNX Runtime is missing."""
        require("onnxruntime", "onnx" if hw.device == "cpu" else "onnx-gpu")

    def load(self, request: LoadRequest) -> Any:
        """Return the dense module, from which the graph is exported."""
        return full.load_module(request)


class DynamicInt8(_InGraph):
    """int8 weights, quantized once per output channel; activations are quantized to int8 at run time."""

    int8_activations: ClassVar[bool] = True
    distributions: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnxruntime-gpu", "onnx")
    packers: ClassVar[tuple[str, ...]] = ("onnxruntime.quantization",)

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """JSON that identifies these weights in artifact keys."""
        return {"name": "int8", "method": "dynamic"}

    def pack(self, dense: Path, folder: Path) -> None:
        """Quantize the graph in the folder `dense` and write it to `folder`."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            dense / _GRAPH,
            folder / _GRAPH,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
        )


class Blocks(_InGraph):
    """Weights of 4 or 8 `bits`, with one scale per block of `block_size` inputs.

    Activations are computed in int8 if `int8_activations`, else in float32. Raises Unsupported for other `bits`, or if
    `block_size` is not a power of two of at least 16.
    """

    distributions: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnxruntime-gpu", "onnx")
    packers: ClassVar[tuple[str, ...]] = ("onnxruntime.quantization.matmul_nbits_quantizer",)

    def footprint(self, sizes: ModelSizes, dtype: str) -> WeightFootprint:
        """Return what the graph's weights take, and `pack`, which holds the dense graph beside the packed one."""
        head = sizes.head or sizes.embedding  # the graph has a matrix of its own for a tied head
        packed = (sizes.linear + head) * (self._bits / 8 + ELEMENT_BYTES[dtype] / self._block_size)
        held = packed + (sizes.embedding + sizes.rest) * ELEMENT_BYTES[dtype]
        return WeightFootprint(held, sizes.dense_bytes(dtype) + held)

    def __init__(self, bits: int = 4, block_size: int = 32, int8_activations: bool = False):
        if bits not in (4, 8):
            raise Unsupported(f"ONNX Runtime has blocks of 4 and 8 bits, not {bits}: set runtime.weights.bits")
        if block_size < 16 or block_size & (block_size - 1):
            raise Unsupported(f"runtime.weights.block_size={block_size} must be a power of two of at least 16")
        self._bits, self._block_size, self.int8_activations = bits, block_size, int8_activations

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """JSON that identifies these weights in artifact keys."""
        return {
            "name": "blocks",
            "bits": self._bits,
            "block_size": self._block_size,
            "int8_activations": self.int8_activations,
        }

    def pack(self, dense: Path, folder: Path) -> None:
        """Quantize the graph in the folder `dense` and write it to `folder`."""
        import onnx
        from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

        config = DefaultWeightOnlyQuantConfig(
            block_size=self._block_size,
            is_symmetric=True,
            accuracy_level=_INT8 if self.int8_activations else _FLOAT,
            bits=self._bits,
        )
        quantizer = MatMulNBitsQuantizer(onnx.load(dense / _GRAPH), algo_config=config)
        quantizer.process()
        quantizer.model.save_model_to_file(str(folder / _GRAPH), use_external_data_format=True)
