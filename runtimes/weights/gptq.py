"""GPTQ (Frantar et al. 2022, arXiv 2210.17323) and AWQ (Lin et al. 2023, arXiv 2306.00978), both by gptqmodel.

gptqmodel patches transformers when it is imported: it quantizes in a process of its own, and what it wrote is kept by
content. 3 and 2 bits have no fast kernels on a CPU: they are for memory.
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
_RECIPE = 2  # raised when the same options make other weights; 1: AWQ in float32 lost its weights
_FEWEST_TOKENS = 4096  # with fewer, a layer's inputs say too little about which weights matter


class Gptq:
    """`method` is gptq or awq; `group_size` inputs share a scale."""

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
        """What artifacts that are made from these weights depend on."""
        return {"name": self._method, "bits": self._bits, "group_size": self._group_size}

    def check(self, hw: Hardware) -> None:
        """Raise Unsupported where gptqmodel is missing."""
        require("gptqmodel", self._method)

    def gpu_dtypes(self, model: ModelSource) -> tuple[str, ...]:
        """Return the dtypes that the weights' kernels on a GPU take, the preferred one first."""
        return full.HALF_DTYPES  # of gptqmodel's kernels: Marlin, ExLlama, GEMM

    def load(self, request: LoadRequest) -> Any:
        """Return the module, quantized now or earlier. Unsupported where the calibration text is too short."""
        self.check(request.hw)
        model, calibration_ids = request.model, request.calibration_ids
        tokens = sum(map(len, calibration_ids))
        if tokens < _FEWEST_TOKENS:
            raise Unsupported(
                f"the calibration text has {tokens} tokens and {self._method} needs {_FEWEST_TOKENS}: give a longer "
                "text with calibration.data=FILE, or more calibration.sequences"
            )
        made_in = quantizing_dtype(request.hw.device)
        made_from = {
            "model": model.digest,
            "weights": dict(self.identity),
            "dtype": made_in,
            "recipe": _RECIPE,
            "calibration": hashlib.sha256(json.dumps([list(ids) for ids in calibration_ids]).encode()).hexdigest(),
            **{name: importlib.metadata.version(name) for name in ("gptqmodel", "torch", "transformers")},
        }
        folder = artifacts.entry(
            request.hw.artifacts, self._method, made_from, lambda folder: self._quantize(request, folder, made_in)
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
        text = json.dumps(vars(order))
        # It leaves logs where it runs.
        done = subprocess.run(
            command, input=text, encoding="utf-8", errors="replace", capture_output=True, env=environment, cwd=folder
        )
        shutil.rmtree(folder / "logs", ignore_errors=True)
        sys.stderr.write(done.stderr[-5000:])  # into the cell's log
        if done.returncode:
            lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
            raise RuntimeError(f"gptqmodel could not quantize: {lines[-1] if lines else done.returncode}")
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
    """Return the dtype to quantize in: "auto", gptqmodel's own choice, where that is fast, else float32.

    On a CPU gptqmodel chooses bfloat16, whatever the processor. The weights are rounded to 4 bits or so afterwards.
    """
    return "float32" if device == "cpu" and is_emulated("bfloat16") else "auto"


def _saved(model: ModelSource, folder: Path, hw: Hardware) -> Path:
    """Save a model that never was on disk, since gptqmodel reads folders."""
    request = LoadRequest(model, "float32", "sdpa", replace(hw, device="cpu"))
    full.load_module(request).save_pretrained(folder)
    return folder
