"""What a runtime declares of its ranks: the processes over which it distributes the weights of one model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rank:
    """One of the processes that compute a model together; rank 0 is the process of the runtime itself."""

    process: int  # its id
    device: str  # such as cpu or cuda:1
    parameters: int  # that it holds
    copied_parameters: int  # of these, the ones that every rank holds, such as norms
    weight_bytes: int
    peak_device_bytes: int | None = None  # that torch allocated while loading; None on a CPU
