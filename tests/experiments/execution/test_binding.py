from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.execution import binding
from runtime_matrix.experiments.execution.binding import Binding, apply, bindings, core_groups, visible_gpus
from runtime_matrix.experiments.measurement.topology import Topology

# Two nodes of three cores with two hyper-threads each.
CORES = tuple((cpu, cpu + 6) for cpu in range(6))
TWO_NODES = Topology(CORES, ((0, 1, 2, 6, 7, 8), (3, 4, 5, 9, 10, 11)))


def on(monkeypatch: pytest.MonkeyPatch, cpus: Topology = TWO_NODES, gpus: Sequence[str] = ()) -> list[int]:
    """Describe a machine; return its CPUs."""
    monkeypatch.setattr(binding, "topology", lambda cores: cpus)
    monkeypatch.setattr(binding, "_gpus", lambda device: list(gpus))
    return [cpu for core in cpus.cores for cpu in core]


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (1, [(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)]),
        (2, [(0, 1, 2, 6, 7, 8), (3, 4, 5, 9, 10, 11)]),  # the nodes
        (3, [(0, 1, 6, 7), (2, 3, 8, 9), (4, 5, 10, 11)]),
        (4, [(0, 6), (1, 7), (2, 8), (3, 9)]),  # equal groups: two cores are left over
        (6, list(CORES)),
    ],
)
def test_groups_are_nodes_or_equal_and_keep_hyper_threads_together(
    devices: int, expected: list[tuple[int, ...]]
) -> None:
    assert core_groups(devices, TWO_NODES) == expected


def test_nodes_may_have_different_sizes() -> None:
    cpus = Topology(((0,), (1,), (2,)), ((0,), (1, 2)))
    assert core_groups(2, cpus) == [(0,), (1, 2)]


def test_more_devices_than_cores() -> None:
    with pytest.raises(UserError, match=r"hw.devices=7 .* may use 6 with 12 hyper-threads, which stay together"):
        core_groups(7, TWO_NODES)
    with pytest.raises(UserError, match=r"may use 2: set hw.devices=2 or less"):
        core_groups(3, Topology(((0,), (1,)), ((0, 1),)))


def test_each_process_has_a_group_of_cores_and_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = on(monkeypatch)
    assert bindings(3, 3, "cpu", None, cores) == [
        Binding((0, 1, 6, 7), None, 4),
        Binding((2, 3, 8, 9), None, 4),
        Binding((4, 5, 10, 11), None, 4),
    ]
    assert [bound.threads for bound in bindings(3, 3, "cpu", 1, cores)] == [1, 1, 1]


def test_processes_that_share_a_group_share_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = bindings(4, 2, "cpu", None, on(monkeypatch))
    assert [(each.cores, each.threads) for each in bound] == [(TWO_NODES.nodes[k % 2], 3) for k in range(4)]


def test_without_devices_nothing_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = on(monkeypatch, gpus=["0"])
    assert bindings(2, None, "auto", None, cores) == [Binding(None, None, 12)] * 2
    assert bindings(2, None, "auto", 3, cores) == [Binding(None, None, 3)] * 2


def test_each_process_has_a_gpu_and_its_share_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = on(monkeypatch, gpus=["2", "GPU-5f"])
    assert bindings(3, 2, "cuda", None, cores) == [
        Binding(None, "2", 4),
        Binding(None, "GPU-5f", 4),
        Binding(None, "2", 4),
    ]


@pytest.mark.parametrize(
    ("count", "devices", "threads", "gpus", "says"),
    [
        (2, 2, 7, [], r"hw.threads=7 exceeds the 6 CPUs of each of hw.devices=2: set hw.threads=6 or less"),
        (1, 2, None, [], r"hw.devices=2 would leave devices idle.* set shards=2 or more"),
        (3, 3, None, ["0", "1"], r"hw.devices=3 needs as many GPUs; visible are 2 \(0, 1\)"),
    ],
)
def test_what_cannot_be_bound(
    monkeypatch: pytest.MonkeyPatch, count: int, devices: int, threads: int | None, gpus: list[str], says: str
) -> None:
    with pytest.raises(UserError, match=says) as raised:
        bindings(count, devices, "auto", threads, on(monkeypatch, gpus=gpus))
    assert "\n" not in str(raised.value)


def test_gpus_are_those_of_an_earlier_choice() -> None:
    assert visible_gpus(2, {}) == ["0", "1"]
    assert visible_gpus(2, {"CUDA_VISIBLE_DEVICES": "3, GPU-5f"}) == ["3", "GPU-5f"]
    assert visible_gpus(1, {"CUDA_VISIBLE_DEVICES": "3,9"}) == ["3"]
    assert visible_gpus(0, {"CUDA_VISIBLE_DEVICES": ""}) == []


def test_cuda_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "gpus", list)
    with pytest.raises(UserError, match=r"hw\.device=cuda: no GPU is visible"):
        bindings(2, 2, "cuda", None, [0, 1])


_CHILD = """
import json, os, sys, threading
from runtime_matrix.experiments.execution.binding import Binding, apply
waiting = threading.Event()
thread = threading.Thread(target=waiting.wait)
thread.start()
apply(Binding((int(sys.argv[1]),), "1", 1))
tasks = [sorted(os.sched_getaffinity(int(task))) for task in os.listdir("/proc/self/task")]
waiting.set()
print(json.dumps([tasks, os.environ["CUDA_VISIBLE_DEVICES"], os.environ["OMP_NUM_THREADS"]]))
"""


def test_a_bound_process_has_its_cores_in_all_threads() -> None:
    core = max(os.sched_getaffinity(0))
    command = [sys.executable, "-c", _CHILD, str(core)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [[[core], [core]], "1", "1"]


def test_torch_takes_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    counts: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", counts.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    apply(Binding(None, None, 3))
    assert counts == [3]
    assert os.environ["OMP_NUM_THREADS"] == "3"
