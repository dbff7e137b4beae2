"""Bind processes to devices: to one GPU each, or on a CPU to a group of cores each."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.measurement.topology import Topology, topology
from runtime_matrix.experiments.records.environment import VISIBLE, gpus

_THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Binding:
    """What one process may use: CPUs and the value of CUDA_VISIBLE_DEVICES, or None for all, and its threads."""

    cores: tuple[int, ...] | None
    visible_devices: str | None
    threads: int


def bindings(count: int, devices: int | None, device: str, threads: int | None, cores: Sequence[int]) -> list[Binding]:
    """Return the binding of each of `count` processes; process k uses device k modulo `devices`.

    `devices` and `threads` are `hw.devices` and `hw.threads`, `device` is `hw.device`, and `cores` are the CPUs that
    this process may use. Devices are GPUs if this machine has some and `device` is not cpu, else groups of cores.
    Without `devices`, nothing is bound. UserError if there are fewer devices or cores than needed, or if there are more
    devices than processes.
    """
    if devices is None:
        return [Binding(None, None, threads or len(cores))] * count
    if devices > count:
        raise UserError(
            f"hw.devices={devices} would leave devices idle: one shard uses one device, so set shards={devices} or more"
        )
    names = _gpus(device)
    if names:
        _check_gpus(devices, names)
        share = threads or max(1, len(cores) // count)
        return [Binding(None, names[index % devices], share) for index in range(count)]
    groups = core_groups(devices, topology(cores))
    sharing = -(-count // devices)  # processes that use the same cores, at most
    _check_threads(threads, groups)
    return [
        Binding(group, None, threads or max(1, len(group) // sharing))
        for group in (groups[index % devices] for index in range(count))
    ]


def core_groups(devices: int, cpus: Topology) -> list[tuple[int, ...]]:
    """Return the CPUs of each device: a NUMA node each if there are as many, else equal groups of adjacent cores.

    Hyper-threads of a core stay together. Cores that are left over are not used. UserError for too few cores.
    """
    if devices == len(cpus.nodes):
        return list(cpus.nodes)
    size = len(cpus.cores) // devices
    if size == 0:
        threads = sum(map(len, cpus.cores))
        smt = f" with {threads} hyper-threads, which stay together" if threads > len(cpus.cores) else ""
        raise UserError(
            f"hw.devices={devices} needs as many cores; this process may use {len(cpus.cores)}{smt}: "
            f"set hw.devices={len(cpus.cores)} or less"
        )
    starts = range(0, size * devices, size)
    return [tuple(sorted(cpu for core in cpus.cores[start : start + size] for cpu in core)) for start in starts]


def visible_gpus(cards: int, variables: Mapping[str, str]) -> list[str]:
    """Return the names of the visible GPUs as CUDA_VISIBLE_DEVICES has them; `cards` is the number of visible ones.

    As in CUDA, the list ends at the first name of no card.
    """
    chosen = variables.get(VISIBLE)
    if chosen is None:
        return [str(index) for index in range(cards)]
    return [part.strip() for part in chosen.split(",") if part.strip()][:cards]


def apply(binding: Binding) -> None:
    """Bind this process and those that it will start. Call it before anything computes or initialises CUDA."""
    if binding.visible_devices is not None:
        os.environ[VISIBLE] = binding.visible_devices
    if binding.cores is not None:
        for thread in map(int, os.listdir("/proc/self/task")):
            with suppress(ProcessLookupError):  # it has just ended
                os.sched_setaffinity(thread, binding.cores)
    os.environ[_THREADS] = str(binding.threads)  # OpenMP and MKL read it when they start
    torch = sys.modules.get("torch")  # a forked process has it, and then the variable comes too late
    if torch is not None:
        torch.set_num_threads(binding.threads)


def _gpus(device: str) -> list[str]:
    """Return the names of the GPUs on which `hw.device` computes; empty if it computes on the CPU."""
    if device == "cpu" or (device == "auto" and "+cpu" in importlib.metadata.version("torch")):
        return []
    names = visible_gpus(len(gpus()), os.environ)
    if device == "cuda" and not names:
        raise UserError(f"hw.device=cuda: no GPU is visible (nvidia-smi, {VISIBLE}): use hw.device=cpu")
    return names


def _check_gpus(devices: int, names: Sequence[str]) -> None:
    if devices > len(names):
        raise UserError(
            f"hw.devices={devices} needs as many GPUs; visible are {len(names)} ({', '.join(names)}): "
            f"set hw.devices={len(names)} or less"
        )


def _check_threads(threads: int | None, groups: Sequence[Sequence[int]]) -> None:
    smallest = min(map(len, groups))
    if threads is not None and threads > smallest:
        raise UserError(
            f"hw.threads={threads} exceeds the {smallest} CPU{'s' if smallest > 1 else ''} of each of "
            f"hw.devices={len(groups)}: set hw.threads={smallest} or less"
        )
