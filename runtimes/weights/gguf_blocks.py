"""Weights that are quantized in blocks of 32 as a GGUF file is written, for llama.cpp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from runtime_matrix.runtimes.base import Hardware, LoadRequest, Unsupported
from runtime_matrix.runtimes.footprint import ModelSizes, WeightFootprint
from runtime_matrix.runtimes.weights import full
from runtime_matrix.runtimes.weights.packages import require

# What the package `gguf` quantizes. The K-quants are only in llama.cpp's own tool, which no wheel exports.
# Bytes of a block of 32 weights: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h
_BLOCK_BYTES = {"Q8_0": 34, "Q5_1": 24, "Q5_0": 22, "Q4_1": 20, "Q4_0": 18}
_TYPES = tuple(_BLOCK_BYTES)


class Blocks:
    """Matrices in a ggml type of 4 to 8 bits, with one float16 scale per block of 32 weights.

    llama.cpp rounds the activations of each product to int8. The output layer has 8 bits. Raises Unsupported for
    another type.
    """

    form: ClassVar[str] = "gguf"
    keeps_values: ClassVar[bool] = False
    needs_calibration: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ("gguf",)
    distributions: ClassVar[tuple[str, ...]] = ("gguf",)

    def __init__(self, tensor_type: str):
        if tensor_type not in _TYPES:
            raise Unsupported(f"runtime.weights.tensor_type={tensor_type} is unknown: use {', '.join(_TYPES)}")
        self.tensor_type = tensor_type

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """JSON that identifies these weights in artifact keys."""
        return {"name": "gguf", "type": self.tensor_type}

    def check(self, hw: Hardware) -> None:
        """Raise Unsupported if the package gguf is missing."""
        require("gguf", "llamacpp")

    def footprint(self, sizes: ModelSizes, dtype: str) -> WeightFootprint:
        """Return what the file's weights take, and writing them: the dense module, and one matrix in both forms."""
        ends = (sizes.embedding + sizes.head) * _BLOCK_BYTES["Q8_0"] / 32
        if sizes.head:
            ends = (sizes.embedding * _BLOCK_BYTES[self.tensor_type] + sizes.head * _BLOCK_BYTES["Q8_0"]) / 32
        held = sizes.linear * _BLOCK_BYTES[self.tensor_type] / 32 + ends + 4 * sizes.rest
        written = full.dense_footprint(sizes, "float32")
        most = 2 * 4 * max(sizes.largest, sizes.embedding)
        return WeightFootprint(held, max(written.load_bytes, written.held_bytes + most))

    def load(self, request: LoadRequest) -> Any:
        """Return the dense module, from which the file is written."""
        return full.load_module(request)
