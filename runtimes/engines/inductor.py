"""Compilation by Inductor, torch's own compiler."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from runtime_matrix.runtimes.base import Hardware, Unsupported

_ATEN_GRAIN = 32768  # elements per thread: at::internal::GRAIN_SIZE


def by_inductor(graph: Callable[..., Any], mode: str, hw: Hardware) -> Callable[..., Any]:
    """Return `graph` compiled: at its first call for each shape. auto and cuda_graph use torch's default mode."""
    if mode not in ("auto", "cuda_graph", "default"):
        compiled: Callable[..., Any] = torch.compile(graph, fullgraph=True, dynamic=False, mode=mode)
        return compiled
    # On a CPU, calling the kernels takes a third of a small model's step: cpp_wrapper makes these calls from C++.
    # Threads wait passively, and waking them for little work costs more than it saves: hence ATen's minimum per thread.
    options: dict[str, str | int | bool | Callable[..., Any]] = {
        "cpp_wrapper": hw.device == "cpu",
        "cpp.min_chunk_size": _ATEN_GRAIN,
    }
    compiled = torch.compile(graph, fullgraph=True, dynamic=False, options=options)
    return compiled


def require_compiler(device: str) -> None:
    """Raise Unsupported where the compiler that Inductor calls is missing; `device` is cpu or cuda."""
    if device != "cpu":
        # Triton compiles its kernels itself, and their launcher with the C compiler.
        if not any(map(shutil.which, filter(None, (os.environ.get("CC"), "gcc", "clang", "cc")))):
            raise Unsupported("torch.compile needs a C compiler on a GPU, for Triton; none was found: install gcc")
        return
    if shutil.which(os.environ.get("CXX", "g++")) is None and shutil.which("clang++") is None:
        raise Unsupported("torch.compile needs a C++ compiler on a CPU; none was found: install g++")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        raise Unsupported("torch.compile needs the headers of Python on a CPU; none were found: install python3-dev")
