"""Tensor parallelism: each of several processes, the ranks, holds and computes a part of each matrix.

transformers distributes the model by the plan of its architecture (`DistributedConfig`); torch.distributed adds up the
parts, with gloo on a CPU and NCCL on GPUs. All ranks run on this machine.
"""

from __future__ import annotations

from typing import Any, ClassVar

from runtime_matrix.runtimes.base import Hardware, Runtime, Unsupported

_BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
_ON_A_CPU = 2  # ranks by default: the fewest that distribute anything


class TensorParallel:
    """Distributes the matrices over `ranks` processes; None: one per visible GPU, and two on a CPU.

    `backend` is auto, gloo or nccl. `timeout_s` is the longest that one rank waits for another, to load or to compute.
    Raises Unsupported for a value that makes no sense.
    """

    packages: ClassVar[tuple[str, ...]] = ()
    distributions: ClassVar[tuple[str, ...]] = ()
    is_whole: ClassVar[bool] = True  # the parts of all ranks are the whole model
    weight_forms: ClassVar[frozenset[str]] = frozenset({"dense"})

    def __init__(self, ranks: int | None = None, backend: str = "auto", timeout_s: float = 300):
        if ranks is not None and ranks < 2:
            raise Unsupported(f"runtime.placement.ranks={ranks}: a model is distributed over at least 2 ranks")
        if backend not in ("auto", *_BACKENDS.values()):
            raise Unsupported(f"runtime.placement.backend={backend} is unknown; known: auto, gloo, nccl")
        if timeout_s <= 0:
            raise Unsupported(f"runtime.placement.timeout_s={timeout_s:g}: the ranks need time to answer")
        self._ranks, self._backend, self.timeout_s = ranks, backend, timeout_s

    def check(self, hw: Hardware) -> None:
        """Raise Unsupported if this machine has too few GPUs, or if torch or transformers cannot distribute here."""
        import torch
        from torch import distributed

        if not distributed.is_available():
            raise Unsupported("this build of torch has no torch.distributed: install torch for Linux from pytorch.org")
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        found = accelerator.type if accelerator is not None else "cpu"
        if found != hw.device:  # transformers takes the accelerator without asking
            raise Unsupported(
                f"transformers distributes a model over {found} on this machine, not over {hw.device}: "
                "set CUDA_VISIBLE_DEVICES to nothing to compute on the CPU"
            )
        if self.backend(hw) == "nccl" and (hw.device == "cpu" or not distributed.is_nccl_available()):
            raise Unsupported("nccl needs NVIDIA GPUs and a torch built for them: runtime.placement.backend=gloo")
        if hw.device == "cuda" and not 2 <= self.ranks(hw) <= torch.cuda.device_count():
            raise Unsupported(
                f"{max(2, self.ranks(hw))} ranks need as many GPUs, one each; "
                f"this machine shows {torch.cuda.device_count()}: runtime/placement=device"
            )

    def ranks(self, hw: Hardware) -> int:
        """Return the number of ranks, this process included."""
        if self._ranks is not None:
            return self._ranks
        if hw.device != "cuda":
            return _ON_A_CPU
        import torch

        return int(torch.cuda.device_count())

    def backend(self, hw: Hardware) -> str:
        """Return the name of torch.distributed's backend."""
        return _BACKENDS[hw.device] if self._backend == "auto" else self._backend

    def place(self, module: Any, hw: Hardware) -> Any:
        """Return the module: it was distributed while it was loaded, since it may be too large for one rank."""
        return module

    def spread(self, runtime: Runtime) -> Runtime:
        """Return the runtime that computes on all ranks; each of them runs `runtime` over its part."""
        from runtime_matrix.runtimes.placements.mirrored import Mirrored

        return Mirrored(runtime, self)
