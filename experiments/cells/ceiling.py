"""What this machine can do at most: bytes copied a second, and products of matrices. Measured once a day.

Imports torch when it measures: for a child process.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

FILE = "ceilings.json"  # among the artifacts
_MAX_AGE_S = 24 * 3600
_COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 32}  # far more than any cache holds
_WIDTH = {"cpu": 2048, "cuda": 8192}
_REPEATS = 5


def known(artifacts: Path, device: str, threads: int) -> dict[str, Any] | None:
    """Return what was measured within a day, or None."""
    try:
        kept: dict[str, Any] = json.loads((artifacts / FILE).read_text())[f"{device}-{threads}"]
    except (OSError, ValueError, KeyError):
        return None
    return kept if 0 <= time.time() - kept["at"] < _MAX_AGE_S else None


def measure(artifacts: Path, device: str, threads: int) -> dict[str, Any]:
    """Measure and keep: `copy_bytes_per_s` (read and written), and `flops_per_s` by dtype."""
    import torch

    from experiments.records.store import write_atomic

    torch.set_num_threads(threads)
    found = {"at": time.time(), "copy_bytes_per_s": _copy(device), "flops_per_s": _products(device)}
    path = artifacts / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        kept = {}
    write_atomic(path, json.dumps(kept | {f"{device}-{threads}": found}, indent=1) + "\n")
    return found


def _copy(device: str) -> float:
    import torch

    source = torch.ones(_COPY_BYTES[device] // 4, device=device)
    target = torch.empty_like(source)
    return 2 * _COPY_BYTES[device] / _best(lambda: target.copy_(source), device)


def _products(device: str) -> dict[str, float]:
    import torch

    found = {}
    for dtype in ("float32", "bfloat16"):
        width = _WIDTH[device]
        matrix = torch.ones(width, width, device=device, dtype=getattr(torch, dtype))
        out = torch.empty_like(matrix)
        seconds = _best(lambda a=matrix, o=out: torch.mm(a, a, out=o), device)
        found[dtype] = 2 * width**3 / seconds
    return found


def _best(call: Any, device: str) -> float:
    import torch

    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)
