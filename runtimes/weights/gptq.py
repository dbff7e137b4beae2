"""GPTQ (Frantar et al. 2022, arXiv 2210.17323) and AWQ (Lin et al. 2023, arXiv 2306.00978), both by gptqmodel.

Importing gptqmodel patches transformers, so quantization runs in a separate process. The quantized model is stored in
the artifact cache. There are no fast CPU kernels for 2 and 3 bits; these save memory only.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from runtime_matrix.runtimes import artifacts
from runtime_matrix.runtimes.base import Hardware, LoadRequest, ModelSource, Unsupported
from runtime_matrix.runtimes.dtype_speed import is_emulated
from runtime_matrix.runtimes.weights import full
from runtime_matrix.runtimes.weights.gptq_worker import Order
from runtime_matrix.runtimes.weights.packages import require
from runtime_matrix.runtimes.weights.rounded import check_groups

_BITS = {"gptq": (2, 3, 4, 8), "awq": (4,)}
# Version of the quantization in the artifact key; increase it when the same options give different weights.
# Version 1 destroyed the weights in AWQ in float32.
_RECIPE = 2
_FEWEST_TOKENS = 4096  # with fewer tokens, a layer's inputs do not show reliably which weights matter


class Gptq:
    """Calibrated quantization by `method` (gptq or awq) to `bits`, with one scale per group of `group_size` inputs.

    Raises Unsupported for an unknown method, or if the method does not support `bits`.
    """

    form: ClassVar[str] = "packed"
    keeps_values: ClassVar[bool] = False
    needs_calibration: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ("gptqmodel", "optimum.gptq")
    distributions: ClassVar[tuple[str, ...]] = ("gptqmodel",)

    def __init__(self, bits: int = 4, group_size: int = 32, method: str = "gptq"):
        if method not in _BITS:
            raise Unsupported(f"runtime.weights.method={method} is unknown; known: {', '.join(_BITS)}")
        if bits not in _BITS[method]:
            known = ", ".join(map(str, _BITS[method]))
            raise Unsupported(f"{method} has {known} bits, not {bits}: set runtime.weights.bits")
        self._bits, self._group_size, self._method = bits, group_size, method

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """JSON that identifies these weights in artifact keys."""
        return {"name": self._method, "bits": self._bits, "group_size": self._group_size}

    def check(self, hw: Hardware) -> None:
        """Raise Unsupported if gptqmodel is missing."""
        require("gptqmodel", self._method)

    def gpu_dtypes(self, model: ModelSource) -> tuple[str, ...]:
        """Return the dtypes that the GPU kernels support, preferred first."""
        return full.HALF_DTYPES  # the dtypes of gptqmodel's kernels: Marlin, ExLlama, GEMM

    def load(self, request: LoadRequest) -> Any:
        """Return the quantized module, from the artifact cache if possible.

        Raises Unsupported if the calibration text is too short, or if `group_size` does not divide a layer's width.
        """
        self.check(request.hw)
        model, calibration_ids = request.model, request.calibration_ids
        tokens = sum(map(len, calibration_ids))
        if tokens < _FEWEST_TOKENS:
            raise Unsupported(
                f"the calibration text has {tokens} tokens and {self._method} needs {_FEWEST_TOKENS}: give a longer "
                "text with calibration.data=FILE, or more calibration.sequences"
            )
        dtype = quantizing_dtype(request.hw.device)
        # Without the dtype: it depends on a measurement, and all processes must use the same weights.
        made_from = {
            "model": model.digest,
            "weights": dict(self.identity),
            "recipe": _RECIPE,
            "calibration": hashlib.sha256(json.dumps([list(ids) for ids in calibration_ids]).encode()).hexdigest(),
            **{name: importlib.metadata.version(name) for name in ("gptqmodel", "torch", "transformers")},
        }
        folder = artifacts.entry(
            request.hw.artifacts, self._method, made_from, lambda folder: self._quantize(request, folder, dtype)
        )
        return full.load_module(replace(request, model=ModelSource(model.digest, folder, None, 0)))

    def _quantize(self, request: LoadRequest, folder: Path, dtype: str) -> None:
        model, hw = request.model, request.hw
        source = model.folder or _saved(model, folder / "source", hw)
        self._check(source)
        order = Order(
            source=str(source.resolve()),
            out=str((folder / "made").resolve()),
            device=hw.device,
            dtype=dtype,
            method=self._method,
            bits=self._bits,
            group_size=self._group_size,
            calibration_ids=[list(ids) for ids in request.calibration_ids],
        )
        environment = os.environ | {"GPTQMODEL_CPU_WORKERS": str(max(2, hw.threads)), "HF_HUB_OFFLINE": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "runtime_matrix.runtimes.weights.gptq_worker"]
        order_json = json.dumps(vars(order))
        # gptqmodel writes logs into its working directory.
        process = subprocess.run(
            command,
            input=order_json,
            encoding="utf-8",
            errors="replace",
            capture_output=True,
            env=environment,
            cwd=folder,
        )
        shutil.rmtree(folder / "logs", ignore_errors=True)
        sys.stderr.write(process.stderr[-5000:])  # the log of the benchmark cell
        if process.returncode:
            lines = [line for line in process.stderr.strip().splitlines() if line.strip()]
            raise RuntimeError(f"gptqmodel could not quantize: {lines[-1] if lines else process.returncode}")
        for path in (folder / "made").iterdir():
            path.rename(folder / path.name)
        (folder / "made").rmdir()
        if model.folder is None:
            for path in source.iterdir():
                path.unlink()
            source.rmdir()

    def _check(self, source: Path) -> None:
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        for name in ("hidden_size", "intermediate_size"):
            if name in config:
                check_groups(name, int(config[name]), self._group_size)


def quantizing_dtype(device: str) -> str:
    """Return the dtype of the quantization: "auto" (gptqmodel's choice), or float32 if that choice would be slow.

    On a CPU gptqmodel always chooses bfloat16, even if the processor emulates it. The choice hardly affects the
    weights, which are then rounded to about 4 bits.
    """
    return "float32" if device == "cpu" and is_emulated("bfloat16") else "auto"


def _saved(model: ModelSource, folder: Path, hw: Hardware) -> Path:
    """Save a random model to `folder`, because gptqmodel only reads folders; return the folder."""
    request = LoadRequest(model, "float32", "sdpa", replace(hw, device="cpu"))
    full.load_module(request).save_pretrained(folder)
    return folder
