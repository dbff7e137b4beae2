"""The state of the machine around a measurement: clocks, governor, stolen and throttled time, load, temperature, GPUs.

What this system does not tell is None. Nothing is set: neither clocks nor modes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.measurement.cgroup import throttled

_GPU_FACTS = {  # by key of the result: what nvidia-smi calls it
    "sm_clock_mhz": "clocks.current.sm",
    "power_w": "power.draw",
    "temperature_c": "temperature.gpu",
    "throttle_reasons": "clocks_event_reasons.active",  # a bit mask; 0x1 is idle
    "ecc_errors": "ecc.errors.uncorrected.volatile.total",
}
_OLDER_NAMES = {"clocks_event_reasons.active": "clocks_throttle_reasons.active"}  # drivers before 535
_STEAL = 7  # of the fields of a `cpu` line: user nice system idle iowait irq softirq steal
_IDLE = (3, 4)
_CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")

Ask = Callable[[Sequence[str]], str | None]


@dataclass(frozen=True)
class MachineState:
    """One reading; counters grow since the machine was started."""

    at_s: float  # of a clock that only grows
    jiffies: tuple[int, ...] | None  # of all CPUs together, as the kernel divides them
    own_cpu_s: float  # of this process and its finished children
    throttled_periods: int | None
    throttled_s: float | None
    cpu_mhz: float | None
    governor: str | None
    load_1min: float | None
    cpu_temperature_c: float | None
    gpus: tuple[Mapping[str, Any], ...]


def read_machine(root: Path = Path("/"), ask: Ask | None = None) -> MachineState:
    """Read the machine below `root`, where `/proc` and `/sys` lie; `ask` runs nvidia-smi. Takes milliseconds on a CPU.

    nvidia-smi takes some 50 ms: not for use while something is timed.
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


def machine_change(before: MachineState, after: MachineState | None = None) -> dict[str, Any]:
    """Return plain JSON: shares of time and counts since `before`, everything else as it is now."""
    after = after or read_machine()
    steal, busy, others = _shares(before, after)
    return {
        "wall_s": round(after.at_s - before.at_s, 4),
        "cpu_mhz": after.cpu_mhz,
        "governor": after.governor,
        "steal_ratio": steal,
        "busy_ratio": busy,  # of all CPUs
        "others_ratio": others,  # the same without this process
        "throttled_periods": _gained(before.throttled_periods, after.throttled_periods),
        "throttled_s": _gained(before.throttled_s, after.throttled_s),
        "load_1min": after.load_1min,
        "cpu_temperature_c": after.cpu_temperature_c,
        "gpus": [dict(gpu) for gpu in after.gpus],
    }


def governor(root: Path = Path("/")) -> str | None:
    """Return the governor of the first CPU; None where the kernel does not scale clocks, as in virtual machines."""
    return _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def _shares(before: MachineState, after: MachineState) -> tuple[float | None, float | None, float | None]:
    """Return the shares of all CPUs' time that were stolen, busy, and busy for other processes than this one."""
    if before.jiffies is None or after.jiffies is None:
        return None, None, None
    gained = [late - early for early, late in zip(before.jiffies, after.jiffies, strict=False)]
    total = sum(gained[: _STEAL + 1])  # guest time, behind, is part of user time
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
    """Return the mean clock of all CPUs now."""
    scaled = [_first_number(path) for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")]
    found = [khz / 1000 for khz in scaled if khz is not None]
    if not found:
        lines = (_text(root / "proc/cpuinfo") or "").splitlines()
        values = [line.partition(":")[2].strip() for line in lines if line.startswith("cpu MHz")]
        found = [float(value) for value in values if _is_number(value)]
    return round(sum(found) / len(found), 1) if found else None


def _cpu_temperature(root: Path) -> float | None:
    """Return the highest temperature that a sensor of the processor shows."""
    found = []
    for sensor in root.glob("sys/class/hwmon/hwmon*"):
        if _text(sensor / "name") in _CPU_SENSORS:
            found += [_first_number(path) for path in sensor.glob("temp*_input")]
    for zone in root.glob("sys/class/thermal/thermal_zone*"):
        if "cpu" in (_text(zone / "type") or "").lower() or _text(zone / "type") == "x86_pkg_temp":
            found.append(_first_number(zone / "temp"))
    known = [millidegrees / 1000 for millidegrees in found if millidegrees is not None]
    return max(known) if known else None


def _gpus(ask: Ask) -> list[dict[str, Any]]:
    """Return the state of each NVIDIA GPU; an empty list where nvidia-smi is not installed or does not answer."""
    names = list(_GPU_FACTS.values())
    text = ask(names) or ask([_OLDER_NAMES.get(name, name) for name in names])
    found = []
    for line in (text or "").strip().splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == len(names):
            found.append({key: _gpu_value(key, part) for key, part in zip(_GPU_FACTS, parts, strict=True)})
    return found


def _gpu_value(key: str, text: str) -> Any:
    if key == "throttle_reasons":
        return text if text.startswith("0x") else None
    if not _is_number(text):  # [N/A], or [Not Supported]
        return None
    return int(text) if key == "ecc_errors" else float(text)


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
    return float(parts[0]) if parts and _is_number(parts[0]) else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
