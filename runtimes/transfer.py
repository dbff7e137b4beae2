"""From the host to a device without waiting for it."""

from __future__ import annotations

import torch


def to_device(tensor: torch.Tensor, device: str | torch.device) -> torch.Tensor:
    """Return the tensor there. From pinned memory the copy takes its turn among the device's work; otherwise the host
    would wait until all that is done."""
    if torch.device(device).type == "cpu" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
