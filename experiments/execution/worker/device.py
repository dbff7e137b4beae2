"""Match hardware profiles to this machine, and read device memory. It imports torch, so only children use it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from runtime_matrix.experiments.config.schema import HwConfig
from runtime_matrix.experiments.measurement.memory import PeakMeter, Sampler, available_bytes
from runtime_matrix.runtimes.base import Unsupported

_MEMORY_TOLERANCE = 0.15  # reserved by driver and error correction; 40 and 80 GB are still distinguished
_SLICE = "MIG"  # in the driver's name of a slice of a card


def resolve(hw: HwConfig) -> tuple[str, str | None]:
    """Return the device to use, and a note if the profile does not match but `allow_mismatch` is set.

    Unsupported if it does not match; the message names what is needed, what was found and a command that works here.
    """
    devices = _devices()
    missing = _misfit(hw, devices)
    if missing and not hw.allow_mismatch:
        raise Unsupported(f"hw={hw.name} needs {missing}; use hw=auto here, or run anyway with hw.allow_mismatch=true")
    names = ", ".join(name for name, _ in devices) or "no CUDA device"
    return present(hw), f"not a {hw.name}: {names}" if missing else None


def misfit(hw: HwConfig) -> str | None:
    """Return what the profile needs and what was found; None if this machine matches it."""
    return _misfit(hw, _devices())


def present(hw: HwConfig) -> str:
    """Return the device that a cell uses here, cpu or cuda, whether or not it matches the profile.

    The first CUDA device that matches the profile becomes torch's current device.
    """
    devices = _devices()
    if not devices or hw.device == "cpu":
        return "cpu"
    _use(next(iter(_fitting(hw, devices)), 0))
    return "cuda"


def uuid() -> str | None:
    """Return NVIDIA's UUID of torch's current device; None without one, or with an older torch."""
    import torch

    identifier = getattr(torch.cuda.get_device_properties(), "uuid", None) if torch.cuda.is_available() else None
    return None if identifier is None else f"GPU-{identifier}"


def _use(index: int) -> None:
    """Make a CUDA device torch's current one, and the only one visible to programs that this process starts."""
    import torch

    if torch.cuda.device_count() < 2:
        return
    torch.cuda.set_device(index)
    name = uuid()
    if name is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = name


def _devices() -> list[tuple[str, float]]:
    """Return the name and the memory in GB of each CUDA device."""
    import torch

    if not torch.cuda.is_available():
        return []
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [(device.name, device.total_memory / 1e9) for device in devices]


def used_bytes(device: str) -> Callable[[], int] | None:
    """Return a function for the device memory in use above the level of this call; None for a CPU.

    Of other GPUs, over which a placement divides the model, it is what torch has reserved there.
    """
    if device != "cuda":
        return None
    import torch

    torch.cuda.init()
    index = torch.cuda.current_device()  # a sampling thread would have its own current device, the first

    def all_used() -> int:
        free, total = torch.cuda.mem_get_info(index)
        others = (other for other in range(torch.cuda.device_count()) if other != index)
        return total - free + sum(map(torch.cuda.memory_reserved, others))

    before = all_used()

    def used() -> int:
        return all_used() - before

    return used


def free_bytes(device: str) -> int | None:
    """Return the free memory of the GPU, or of the host for a CPU; None if unknown."""
    if device != "cuda":
        return available_bytes()
    import torch

    return torch.cuda.mem_get_info()[0]


def give_back_free(device: str) -> None:
    """Release the GPU memory that torch caches, because it is not needed by the work that is measured."""
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()


def peak_bytes_of(used: Callable[[], int] | None, meter: PeakMeter, work: Callable[[], None]) -> int | None:
    """Return the memory peak of a call of `work`, in bytes: of the device if `used` measures it, else of the host."""
    if used is None:
        with meter.phase("fit"):
            work()
        return meter.peaks_bytes["fit"]
    give_back_free("cuda")
    with Sampler(used) as sampler:
        work()
    return sampler.highest


def _misfit(hw: HwConfig, devices: Sequence[tuple[str, float]]) -> str | None:
    """Return what is needed and what was found; None if the profile matches. `devices` are (name, GB)."""
    needs = hw.requires
    names = ", ".join(f"{name} with {size:.0f} GB" for name, size in devices) or "no CUDA device"
    # A process that is bound to one of `hw.devices` sees only that one.
    least = needs.devices if hw.devices is None else min(1, needs.devices)
    if (hw.device == "cuda" and not devices) or len(_fitting(hw, devices)) < least:
        return f"{_needed(hw, bool(devices))}; found {names}"
    return None


def _fitting(hw: HwConfig, devices: Sequence[tuple[str, float]]) -> list[int]:
    """Return the indexes of the devices that match the profile."""
    needs = hw.requires
    return [
        index
        for index, (name, size) in enumerate(devices)
        if (needs.device_name or "").lower() in name.lower()
        and not any(part.lower() in name.lower() for part in needs.without or ())
        and (_SLICE not in name or _SLICE in (needs.device_name or ""))
        and (needs.memory_gb is None or abs(size - needs.memory_gb) <= _MEMORY_TOLERANCE * needs.memory_gb)
    ]


def _needed(hw: HwConfig, has_devices: bool) -> str:
    needs = hw.requires
    if needs.device_name is None:
        return "a CUDA device"
    size = f" with {needs.memory_gb:g} GB" if needs.memory_gb else ""
    other = f", not {' or '.join(needs.without)}," if needs.without and has_devices else ""
    plural = "s" if needs.devices > 1 else ""
    return f"{max(1, needs.devices)} CUDA device{plural} named {needs.device_name}{other}{size}"
