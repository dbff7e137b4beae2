"""The state of the machine around a measurement: clocks, governor, stolen and throttled time, load, temperature, GPUs.

Values that the system does not report are None. Nothing is set, neither clocks nor modes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from runtime_matrix.experiments.measurement.cgroup import throttled

_GPU_FACTS = (  # names in nvidia-smi of the fields of `GpuState`, in their order
    "clocks.current.sm",
    "power.draw",
    "temperature.gpu",
    "clocks_event_reasons.active",
    "ecc.errors.uncorrected.volatile.total",
)
_OLDER_NAMES = {"clocks_event_reasons.active": "clocks_throttle_reasons.active"}  # drivers before 535
_STEAL = 7  # index in a `cpu` line: user nice system idle iowait irq softirq steal
_IDLE = (3, 4)
_CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")

Ask = Callable[[Sequence[str]], str | None]


class GpuState(Struct, frozen=True, kw_only=True):
    """One reading of an NVIDIA GPU."""

    sm_clock_mhz: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    throttle_reasons: str | None = None  # a bit mask; 0x1 is idle
    ecc_errors: int | None = None


@dataclass(frozen=True)
class MachineState:
    """One reading. Counters count since the machine was started."""

    at_s: float  # monotonic clock
    jiffies: tuple[int, ...] | None  # of all CPUs together, by the fields of a `cpu` line
    own_cpu_s: float  # CPU time of this process and its finished children
    throttled_periods: int | None
    throttled_s: float | None
    cpu_mhz: float | None
    governor: str | None
    load_1min: float | None
    cpu_temperature_c: float | None
    gpus: tuple[GpuState, ...]


class MachineChange(Struct, frozen=True, kw_only=True):
    """How busy the machine was in an interval, and its state at the end."""

    wall_s: float | None = None
    cpu_mhz: float | None = None
    governor: str | None = None
    steal_ratio: float | None = None
    busy_ratio: float | None = None  # share of the time of all CPUs
    others_ratio: float | None = None  # `busy_ratio` without this process
    throttled_periods: float | None = None
    throttled_s: float | None = None
    load_1min: float | None = None
    cpu_temperature_c: float | None = None
    gpus: list[GpuState] = []
    gpus_before: list[GpuState] = []


def read_machine(root: Path = Path("/"), ask: Ask | None = None) -> MachineState:
    """Read the state from `/proc` and `/sys` below `root` in milliseconds; `ask` queries nvidia-smi.

    nvidia-smi takes about 50 ms, so do not call this during timed work.
    """
    periods, throttled_s = throttled(root)
    times = os.times()
    return MachineState(
        at_s=time.monotonic(),
        jiffies=_jiffies(root),
        own_cpu_s=sum(times[:4]),
        throttled_periods=periods,
        throttled_s=throttled_s,
        cpu_mhz=_cpu_mhz(root),
        governor=governor(root),
        load_1min=_first_number(root / "proc/loadavg"),
        cpu_temperature_c=_cpu_temperature(root),
        gpus=tuple(_gpus(ask or _run)),
    )


def machine_change(before: MachineState, after: MachineState | None = None) -> MachineChange:
    """Return shares of time and counts since `before`; all other values are those of `after`, by default of now."""
    after = after or read_machine()
    steal, busy, others = _shares(before, after)
    return MachineChange(
        wall_s=round(after.at_s - before.at_s, 4),
        cpu_mhz=after.cpu_mhz,
        governor=after.governor,
        steal_ratio=steal,
        busy_ratio=busy,
        others_ratio=others,
        throttled_periods=_gained(before.throttled_periods, after.throttled_periods),
        throttled_s=_gained(before.throttled_s, after.throttled_s),
        load_1min=after.load_1min,
        cpu_temperature_c=after.cpu_temperature_c,
        gpus=list(after.gpus),
        gpus_before=list(before.gpus),
    )


def governor(root: Path = Path("/")) -> str | None:
    """Return the governor of the first CPU; None if the kernel does not scale clocks, as in virtual machines."""
    return _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def _shares(before: MachineState, after: MachineState) -> tuple[float | None, float | None, float | None]:
    """Return the shares of all CPU time: stolen, busy, and busy for processes other than this one."""
    if before.jiffies is None or after.jiffies is None:
        return None, None, None
    gained = [late - early for early, late in zip(before.jiffies, after.jiffies, strict=False)]
    total = sum(gained[: _STEAL + 1])  # the guest fields that follow are part of user time
    if total <= 0 or len(gained) <= _STEAL:
        return None, None, None
    idle = sum(gained[index] for index in _IDLE)
    steal, busy = gained[_STEAL] / total, (total - idle - gained[_STEAL]) / total
    own = (after.own_cpu_s - before.own_cpu_s) * os.sysconf("SC_CLK_TCK") / total
    return round(steal, 4), round(busy, 4), round(max(0.0, busy - own), 4)


def _jiffies(root: Path) -> tuple[int, ...] | None:
    line = (_text(root / "proc/stat") or "").partition("\n")[0].split()
    if not line or line[0] != "cpu":
        return None
    return tuple(int(part) for part in line[1:])


def _cpu_mhz(root: Path) -> float | None:
    """Return the current mean clock of all CPUs."""
    scaled = [_first_number(path) for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")]
    clocks = [khz / 1000 for khz in scaled if khz is not None]
    if not clocks:
        lines = (_text(root / "proc/cpuinfo") or "").splitlines()
        values = [_number(line.partition(":")[2].strip()) for line in lines if line.startswith("cpu MHz")]
        clocks = [value for value in values if value is not None]
    return round(sum(clocks) / len(clocks), 1) if clocks else None


def _cpu_temperature(root: Path) -> float | None:
    """Return the highest temperature of the processor's sensors, in °C."""
    readings = []
    for sensor in root.glob("sys/class/hwmon/hwmon*"):
        if _text(sensor / "name") in _CPU_SENSORS:
            readings += [_first_number(path) for path in sensor.glob("temp*_input")]
    for zone in root.glob("sys/class/thermal/thermal_zone*"):
        if "cpu" in (_text(zone / "type") or "").lower() or _text(zone / "type") == "x86_pkg_temp":
            readings.append(_first_number(zone / "temp"))
    known = [millidegrees / 1000 for millidegrees in readings if millidegrees is not None]
    return max(known) if known else None


def _gpus(ask: Ask) -> list[GpuState]:
    """Return the state of each NVIDIA GPU; empty if nvidia-smi is not installed or fails."""
    text = ask(_GPU_FACTS) or ask([_OLDER_NAMES.get(name, name) for name in _GPU_FACTS])
    rows = [[part.strip() for part in line.split(",")] for line in (text or "").strip().splitlines()]
    return [_gpu(*parts) for parts in rows if len(parts) == len(_GPU_FACTS)]


def _gpu(clock: str, power: str, temperature: str, reasons: str, errors: str) -> GpuState:
    return GpuState(
        sm_clock_mhz=_number(clock),
        power_w=_number(power),
        temperature_c=_number(temperature),
        throttle_reasons=reasons if reasons.startswith("0x") else None,
        ecc_errors=int(errors) if _number(errors) is not None else None,
    )


def _run(names: Sequence[str]) -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _gained(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else round(after - before, 6)


def _first_number(path: Path) -> float | None:
    parts = (_text(path) or "").split()
    return _number(parts[0]) if parts else None


def _number(text: str) -> float | None:
    """Return the number; None for other text, such as [N/A] or [Not Supported] of nvidia-smi."""
    try:
        return float(text)
    except ValueError:
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
