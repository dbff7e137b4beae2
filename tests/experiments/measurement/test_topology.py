from __future__ import annotations

import os
from pathlib import Path

from runtime_matrix.experiments.measurement.topology import Topology, topology


def described(root: Path, siblings: dict[int, str], nodes: dict[int, str]) -> Path:
    """Write the files of /sys for these CPUs and nodes."""
    files = {f"cpu/cpu{cpu}/topology/thread_siblings_list": text for cpu, text in siblings.items()}
    files |= {f"node/node{node}/cpulist": text for node, text in nodes.items()}
    for name, text in files.items():
        path = root / "sys/devices/system" / name
        path.parent.mkdir(parents=True)
        path.write_text(f"{text}\n")
    return root


def test_hyper_threads_and_nodes_are_read(tmp_path: Path) -> None:
    siblings = {cpu: f"{cpu % 4},{cpu % 4 + 4}" for cpu in range(8)}
    root = described(tmp_path, siblings, {0: "0-1,4-5", 1: "2-3,6-7", 2: ""})
    assert topology(range(8), root) == Topology(((0, 4), (1, 5), (2, 6), (3, 7)), ((0, 1, 4, 5), (2, 3, 6, 7)))


def test_cpus_that_the_process_may_not_use_are_left_out(tmp_path: Path) -> None:
    siblings = {cpu: f"{cpu % 4},{cpu % 4 + 4}" for cpu in range(8)}
    root = described(tmp_path, siblings, {0: "0-1,4-5", 1: "2-3,6-7"})
    assert topology([0, 1, 5], root) == Topology(((0,), (1, 5)), ((0, 1, 5),))


def test_without_sys_each_cpu_is_a_core_of_one_node(tmp_path: Path) -> None:
    assert topology([3, 1], tmp_path) == Topology(((1,), (3,)), ((1, 3),))


def test_the_topology_of_this_machine_has_each_cpu_once() -> None:
    allowed = os.sched_getaffinity(0)
    here = topology(allowed)
    for groups in (here.cores, here.nodes):
        assert sorted(cpu for group in groups for cpu in group) == sorted(allowed)
