"""Whether a hardware profile fits this machine. Imports torch: for the child process."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from runtime_matrix.experiments.config.schema import HwConfig
from runtime_matrix.experiments.measurement.memory import PeakMeter, Sampler, available_bytes
from runtime_matrix.runtimes.base import Unsupported

_MEMORY_TOLERANCE = 0.15  # what a driver keeps for itself and error correction takes; 40 and 80 GB stay apart
_SLICE = "MIG"  # in the driver's name of a part of a card


def resolve(hw: HwConfig) -> tuple[str, str | None]:
    """Return the device to use and a stamp for a profile that does not fit but was insisted on.

    Unsupported names what the profile needs, what was found, and a command that works here.
    """
    devices = _devices()
    missing = _misfit(hw, devices)
    if missing and not hw.allow_mismatch:
        raise Unsupported(
            f"hw={hw.name} needs {missing}; run it here with hw=auto, or insist with hw.allow_mismatch=true"
        )
    found = ", ".join(name for name, _ in devices) or "no CUDA device"
    return present(hw), f"not a {hw.name}: {found}" if missing else None


def misfit(hw: HwConfig) -> str | None:
    """Return what the profile needs and what was found, or None where it is true of this machine."""
    return _misfit(hw, _devices())


def present(hw: HwConfig) -> str:
    """Return the device that a cell uses here, whether or not it is the profile's.

    Of several CUDA devices, torch's current one is then the first that is the profile's.
    """
    devices = _devices()
    if not devices or hw.device == "cpu":
        return "cpu"
    _use(next(iter(_fitting(hw, devices)), 0))
    return "cuda"


def uuid() -> str | None:
    """Return the name that NVIDIA's tools use for torch's current device; None without one, or with an older torch."""
    import torch

    found = getattr(torch.cuda.get_device_properties(), "uuid", None) if torch.cuda.is_available() else None
    return None if found is None else f"GPU-{found}"


def _use(index: int) -> None:
    """Make a CUDA device torch's current one, and the only one of programs that this process starts."""
    import torch

    if torch.cuda.device_count() < 2:
        return
    torch.cuda.set_device(index)
    name = uuid()
    if name is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = name


def _devices() -> list[tuple[str, float]]:
    """Return the name and the gigabytes of each CUDA device."""
    import torch

    if not torch.cuda.is_available():
        return []
    every = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [(one.name, one.total_memory / 1e9) for one in every]


def used_bytes(device: str) -> Callable[[], int] | None:
    """Return a function that tells what the device holds more than now; None for a CPU."""
    if device != "cuda":
        return None
    import torch

    torch.cuda.init()
    index = torch.cuda.current_device()  # of this thread: one that samples has a current device of its own, the first

    def all_used() -> int:
        free, total = torch.cuda.mem_get_info(index)
        return total - free

    before = all_used()

    def used() -> int:
        return all_used() - before

    return used


def free_bytes(device: str) -> int | None:
    if device != "cuda":
        return available_bytes()
    import torch

    return torch.cuda.mem_get_info()[0]


def give_back_free(device: str) -> None:
    """Let torch give back what it keeps for later: it is not what the work needs."""
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()


def peak_bytes_of(used: Callable[[], int] | None, meter: PeakMeter, work: Callable[[], None]) -> int | None:
    """Return the peak of memory during a call of `work`: of the device where `used` tells it, else of the host."""
    if used is None:
        with meter.phase("fit"):
            work()
        return meter.peaks_bytes["fit"]
    give_back_free("cuda")
    with Sampler(used) as sampler:
        work()
    return sampler.highest


def _misfit(hw: HwConfig, devices: Sequence[tuple[str, float]]) -> str | None:
    """Return what is needed and what was found, or None where the profile is true; devices are (name, gigabytes)."""
    needs = hw.requires
    found = ", ".join(f"{name} with {size:.0f} GB" for name, size in devices) or "no CUDA device"
    if (hw.device == "cuda" and not devices) or len(_fitting(hw, devices)) < needs.devices:
        return f"{_wanted(hw, bool(devices))}; found {found}"
    return None


def _fitting(hw: HwConfig, devices: Sequence[tuple[str, float]]) -> list[int]:
    """Return the indexes of the devices that are the profile's."""
    needs = hw.requires
    return [
        index
        for index, (name, size) in enumerate(devices)
        if (needs.device_name or "").lower() in name.lower()
        and not any(part.lower() in name.lower() for part in needs.without or ())
        and (_SLICE not in name or _SLICE in (needs.device_name or ""))
        and (needs.memory_gb is None or abs(size - needs.memory_gb) <= _MEMORY_TOLERANCE * needs.memory_gb)
    ]


def _wanted(hw: HwConfig, has_devices: bool) -> str:
    needs = hw.requires
    if needs.device_name is None:
        return "a CUDA device"
    size = f" with {needs.memory_gb:g} GB" if needs.memory_gb else ""
    other = f", not {' or '.join(needs.without)}," if needs.without and has_devices else ""
    plural = "s" if needs.devices > 1 else ""
    return f"{max(1, needs.devices)} CUDA device{plural} named {needs.device_name}{other}{size}"
