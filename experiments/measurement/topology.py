"""Which CPUs share a core, and which a NUMA node. Linux only; without `/sys`, each CPU is a core of one node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

Cpus = tuple[int, ...]  # logical CPUs, ascending


@dataclass(frozen=True)
class Topology:
    """The CPUs that a process may use: those of each core (its hyper-threads), and those of each NUMA node."""

    cores: tuple[Cpus, ...]
    nodes: tuple[Cpus, ...]


def topology(allowed: Iterable[int], root: Path = Path("/")) -> Topology:
    """Return the cores and nodes of the CPUs `allowed`, each in the order of its first CPU."""
    cpus = frozenset(allowed)
    of_system = root / "sys/devices/system"
    siblings = (_read_list(of_system / f"cpu/cpu{cpu}/topology/thread_siblings_list") or (cpu,) for cpu in cpus)
    nodes = (_read_list(path) for path in of_system.glob("node/node[0-9]*/cpulist"))
    return Topology(_groups(cpus, siblings), _groups(cpus, nodes) or (tuple(sorted(cpus)),))


def _groups(cpus: frozenset[int], groups: Iterable[Cpus]) -> tuple[Cpus, ...]:
    """Return the distinct groups, restricted to `cpus`, without empty ones."""
    return tuple(sorted({tuple(sorted(cpus.intersection(group))) for group in groups} - {()}))


def _read_list(path: Path) -> Cpus:
    """Return the CPUs of a file; empty if it is missing."""
    try:
        return cpu_list(path.read_text(encoding="utf-8"))
    except OSError:
        return ()


def cpu_list(text: str) -> Cpus:
    """Return the CPUs of a list as the kernel writes it, such as 0-3,8."""
    ranges = (part.partition("-") for part in text.strip().split(",") if part)
    return tuple(cpu for first, _, last in ranges for cpu in range(int(first), int(last or first) + 1))
