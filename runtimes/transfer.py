"""Copies from host memory to a device without synchronization."""

from __future__ import annotations

import torch


def to_device(tensor: torch.Tensor, device: str | torch.device) -> torch.Tensor:
    """Return the tensor on `device`.

    The copy goes through pinned memory, so it is queued on the device's stream. A copy from pageable memory would block
    the host until all queued work is done.
    """
    if torch.device(device).type == "cpu" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
