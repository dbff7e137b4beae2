"""The machine's state, read from made-up `/proc` and `/sys` trees."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import asdict

from runtime_matrix.experiments.measurement.cgroup import cpu_limit, memory_limit_bytes
from runtime_matrix.experiments.measurement.machine import GpuState, MachineChange, machine_change, read_machine
from runtime_matrix.experiments.records.schema import to_plain, typed


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def silent(names: Sequence[str]) -> None:
    return None


BARE_METAL = {
    "proc/stat": "cpu  100 0 50 800 10 0 0 40 0 0\ncpu0 1 2 3",
    "proc/loadavg": "0.42 0.16 0.09 1/99 1234",
    "proc/self/cgroup": "0::/user.slice/a",
    "sys/fs/cgroup/user.slice/cpu.stat": "usage_usec 5\nnr_periods 9\nnr_throttled 2\nthrottled_usec 1500000",
    "sys/fs/cgroup/user.slice/cpu.max": "150000 100000",
    "sys/fs/cgroup/user.slice/a/memory.max": "1073741824",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2000000",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "3000000",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance",
    "sys/class/hwmon/hwmon0/name": "k10temp",
    "sys/class/hwmon/hwmon0/temp1_input": "61500",
    "sys/class/hwmon/hwmon1/name": "nvme",
    "sys/class/hwmon/hwmon1/temp1_input": "99000",
}


def test_shares_and_counts_are_differences_of_two_readings(tmp_path: Path) -> None:
    before = read_machine(write(tmp_path, BARE_METAL), silent)
    later = {
        "proc/stat": "cpu  140 0 60 830 10 0 0 60 0 0",  # 100 jiffies: 50 busy, 30 idle, 20 stolen
        "sys/fs/cgroup/user.slice/cpu.stat": "nr_throttled 5\nthrottled_usec 1750000",
    }
    change = machine_change(before, read_machine(write(tmp_path, later), silent))
    assert (change.steal_ratio, change.busy_ratio) == (0.2, 0.5)
    assert change.others_ratio is not None
    assert 0 < change.others_ratio <= 0.5  # this process ran for a moment
    assert (change.throttled_periods, change.throttled_s) == (3, 0.25)
    assert (change.cpu_mhz, change.governor, change.load_1min) == (2500.0, "performance", 0.42)
    assert change.cpu_temperature_c == 61.5
    assert typed(json.loads(json.dumps(to_plain(change))), MachineChange) == change


def test_unreported_values_are_none(tmp_path: Path) -> None:
    state = read_machine(tmp_path, silent)
    change = asdict(machine_change(state, state))
    assert change.pop("wall_s") == 0
    assert change.pop("gpus") == change.pop("gpus_before") == []
    assert set(change.values()) == {None}


def test_the_clock_of_a_virtual_machine_is_read_from_cpuinfo(tmp_path: Path) -> None:
    write(tmp_path, {"proc/cpuinfo": "processor : 0\ncpu MHz\t\t: 2596.1\n\nprocessor : 1\ncpu MHz\t\t: 2597.1"})
    assert read_machine(tmp_path, silent).cpu_mhz == 2596.6


def test_clocks_and_throttle_reasons_of_gpus_are_read(tmp_path: Path) -> None:
    asked = []

    def older_driver(names: Sequence[str]) -> str | None:
        asked.append(list(names))
        if "clocks_event_reasons.active" in names:
            return None
        return "1980, 312.25, 61, 0x0000000000000004, 0\n1200, [N/A], 40, 0x0000000000000001, [N/A]\n"

    first, second = read_machine(tmp_path, older_driver).gpus
    assert first == GpuState(
        sm_clock_mhz=1980.0,
        power_w=312.25,
        temperature_c=61.0,
        throttle_reasons="0x0000000000000004",
        ecc_errors=0,
    )
    assert (second.power_w, second.ecc_errors) == (None, None)
    assert "clocks_throttle_reasons.active" in asked[1]


def test_this_machine_can_be_read() -> None:
    change = machine_change(read_machine())
    assert change.load_1min is not None
    assert change.wall_s is not None
    assert change.wall_s >= 0


VERSION_1 = {
    "proc/self/cgroup": "4:memory:/jobs/7\n1:cpu,cpuacct:/\n0::/",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    "sys/fs/cgroup/cpu/cpu.stat": "nr_periods 1\nnr_throttled 4\nthrottled_time 2500000000",
    "sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes": "2147483648",
}
UNLIMITED = {
    "proc/self/cgroup": "0::/",
    "sys/fs/cgroup/cpu.max": "max 100000",
    "sys/fs/cgroup/memory.max": "max",
}
UNLIMITED_1 = VERSION_1 | {
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
    "sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes": "9223372036854771712",
}


@pytest.mark.parametrize(
    ("files", "cpus", "limit"),
    [
        (BARE_METAL, 1.5, 2**30),
        (VERSION_1, 0.5, 2**31),
        (UNLIMITED, None, None),
        (UNLIMITED_1, None, None),
        ({}, None, None),
    ],
)
def test_limits_of_the_control_group_are_read(tmp_path: Path, files: dict[str, str], cpus: float, limit: int) -> None:
    write(tmp_path, files)
    assert cpu_limit(tmp_path) == cpus
    assert memory_limit_bytes(tmp_path) == limit


def test_throttling_is_read_from_version_1_too(tmp_path: Path) -> None:
    state = read_machine(write(tmp_path, VERSION_1), silent)
    assert (state.throttled_periods, state.throttled_s) == (4, 2.5)
