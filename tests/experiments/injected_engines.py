"""Engines with one known fault each, which `explain` must name, and one that states where it runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from runtime_matrix.runtimes.base import LOGITS, Hardware, ModelSource, Outputs, Phase, Traits
from runtime_matrix.runtimes.engines.compiled import Compiled
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.fake import Fake
from runtime_matrix.runtimes.engines.onnxruntime import OnnxRuntime

_DISPATCH_S = 0.02  # per call: more than the rest of a step of the bundled model
_NOISE = 0.3  # of a logit


class Capped(Eager):
    """Uses one thread, whatever it is told."""

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        return super().load(model, replace(hw, threads=1), phase, calibration_ids)


class Stating(Fake):
    """Notes the CPUs on which its process may run, as the system states them, and its threads."""

    @override
    def load(
        self, model: ModelSource, hw: Hardware, phase: Phase, calibration_ids: Sequence[Sequence[int]] = ()
    ) -> Traits:
        traits = super().load(model, hw, phase, calibration_ids)
        status = Path(f"/proc/{os.getpid()}/status").read_text(encoding="utf-8").splitlines()
        cpus = next(line for line in status if line.startswith("Cpus_allowed_list"))
        return replace(traits, notes=(cpus, f"threads: {torch.get_num_threads()}"))


class Dispatching(Eager):
    """Spends time in Python at each call."""

    @override
    def forward(
        self,
        ids_BT: Any,
        lengths: Any,
        cache: Any = None,
        at_BK: Any = None,
        *,
        outputs: frozenset[str] = LOGITS,
        contexts: Any = (),
    ) -> Outputs:
        end = time.perf_counter() + _DISPATCH_S
        while time.perf_counter() < end:
            pass
        return super().forward(ids_BT, lengths, cache, at_BK, outputs=outputs, contexts=contexts)


class Noisy(Eager):
    """Computes other logits than the model's."""

    @override
    def forward(
        self,
        ids_BT: Any,
        lengths: Any,
        cache: Any = None,
        at_BK: Any = None,
        *,
        outputs: frozenset[str] = LOGITS,
        contexts: Any = (),
    ) -> Outputs:
        logits_BKV = super().forward(ids_BT, lengths, cache, at_BK, outputs=outputs, contexts=contexts).logits_BKV
        wave_V = torch.arange(logits_BKV.shape[-1], device=logits_BKV.device).sin()
        return Outputs(logits_BKV + _NOISE * wave_V)


class Broken(Compiled):
    """Compiles graphs with a break in them."""

    def __init__(self, dtype: str = "float32", **options: Any):
        super().__init__(dtype, compile_graph=_with_a_break, **options)


def _with_a_break(graph: Callable[..., Any], mode: str, hw: Hardware) -> Callable[..., Any]:
    def broken(*arguments: Any) -> Any:
        result = graph(*arguments)
        torch._dynamo.graph_break()
        return result

    compiled: Callable[..., Any] = torch.compile(broken, dynamic=False)
    return compiled


class Half(OnnxRuntime):
    """Runs a float16 graph on a CPU, whose missing kernels ONNX Runtime replaces by casts around float32 ones."""

    @override
    def check(self, hw: Hardware) -> None:
        """Accept what ONNX Runtime accepts."""
