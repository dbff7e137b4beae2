"""Whether a hardware profile fits this machine. Imports torch: for the child process."""

from __future__ import annotations

from experiments.config import HwConfig
from runtimes.base import Unsupported


def resolve(hw: HwConfig) -> tuple[str, str | None]:
    """Return the device to use and a stamp for a profile that does not fit but was insisted on.

    Unsupported names what the profile needs, what was found, and what works here.
    """
    import torch

    has_cuda = torch.cuda.is_available()
    found = torch.cuda.get_device_name(0) if has_cuda else "no CUDA device"
    misfit = _misfit(hw, has_cuda, found)
    if misfit and not hw.allow_mismatch:
        raise Unsupported(f"hw={hw.name} {misfit}; found {found}: use hw=auto")
    device = "cuda" if has_cuda and hw.device != "cpu" else "cpu"
    return device, f"not a {hw.name}: {found}" if misfit else None


def _misfit(hw: HwConfig, has_cuda: bool, found: str) -> str | None:
    import torch

    if hw.device == "cuda" and not has_cuda:
        return "needs a CUDA device"
    if hw.requires_device_name and hw.requires_device_name.lower() not in found.lower():
        return f"needs a device named {hw.requires_device_name}"
    if hw.requires_memory_gib and has_cuda:
        gib = torch.cuda.get_device_properties(0).total_memory / 2**30
        if gib < hw.requires_memory_gib:
            return f"needs {hw.requires_memory_gib:g} GiB of device memory, not {gib:.0f},"
    return None
