"""Weights with half of their bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from runtime_matrix.runtimes.base import Hardware, LoadRequest
from runtime_matrix.runtimes.weights.full import load_module


class Halved:
    """The values that float16 has, computed in the runtime's dtype."""

    form: ClassVar[str] = "dense"
    keeps_values: ClassVar[bool] = False
    needs_calibration: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ()
    distributions: ClassVar[tuple[str, ...]] = ("halved-weights",)
    identity: ClassVar[Mapping[str, str | int | None]] = {"name": "halved"}

    def check(self, hw: Hardware) -> None:
        """Nothing beside torch and transformers is needed."""

    def load(self, request: LoadRequest) -> Any:
        module = load_module(request)
        for weight in module.parameters():
            weight.data = weight.data.half().to(weight.dtype)
        return module
