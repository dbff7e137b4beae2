from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runtime_matrix.experiments.measurement.clocks import PhaseTimer, StepTimer
from runtime_matrix.experiments.measurement.memory import (
    MemoryTrace,
    PeakMeter,
    Sampler,
    tree_peak_bytes,
    tree_resident_bytes,
)
from runtime_matrix.experiments.measurement.processes import TreeClock, descendants
from runtime_matrix.experiments.statistics.descriptive import percentile, standard_error
from tests.conftest import ROOT


def test_steps_are_timed_by_the_injected_clock() -> None:
    times = iter([10.0, 10.5, 10.6, 10.8])
    synchronised: list[int] = []
    timer = StepTimer(lambda: next(times), lambda: synchronised.append(1))
    timer.start()
    for _ in range(3):
        timer.tick()
    assert timer.ttft_s == 0.5
    assert timer.tpot_s == pytest.approx([0.1, 0.2])
    assert timer.total_s == pytest.approx(0.8)
    assert len(synchronised) == 4


def test_phases_add_up() -> None:
    times = iter([0.0, 2.0, 5.0, 6.0])
    timer = PhaseTimer(lambda: next(times))
    for _ in range(2):
        with timer.phase("export"):
            pass
    assert timer.seconds == {"export": 3.0}


def test_a_phase_within_another_counts_once() -> None:
    times = iter([0.0, 1.0, 5.0, 6.0, 8.0, 9.0])
    timer = PhaseTimer(lambda: next(times))
    with timer.phase("export"):
        with timer.phase("import"):
            pass
        with timer.phase("weights"):
            pass
    assert timer.seconds == {"import": 4.0, "weights": 2.0, "export": 3.0}


@pytest.mark.parametrize(("q", "needed"), [(90, 29), (95, 59), (99, 299)])
def test_a_percentile_needs_enough_samples(q: float, needed: int) -> None:
    assert percentile([1.0] * (needed - 1), q) is None
    assert percentile([1.0] * needed, q) == 1.0


def test_questions_that_share_passages_have_a_larger_error() -> None:
    together = standard_error([1.0, 1.0, 0.0, 0.0] * 20, ["a", "a", "b", "b"] * 20)
    passages = [index // 2 for index in range(80)]
    paired, alone = standard_error([1.0, 1.0, 0.0, 0.0] * 20, passages), standard_error([1.0, 1.0, 0.0, 0.0] * 20)
    assert alone == pytest.approx(0.5 / math.sqrt(79))
    assert paired == pytest.approx(0.5 / math.sqrt(39))
    assert together == pytest.approx(0.5 * math.sqrt(2 / 1) / math.sqrt(2))  # two subjects: hardly anything is known
    assert standard_error([1.0, 0.0, 1.0, 0.0], ["a", "a", "b", "b"]) == standard_error([1.0, 0.0, 1.0, 0.0])


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_a_mean_of_0_or_100_percent_is_not_known_exactly(score: float) -> None:
    """The error was 0.000."""
    of_items, of_passages = standard_error([score] * 60), standard_error([score] * 60, [i // 3 for i in range(60)])
    assert of_items == pytest.approx(1.96 / (2 * (60 + 1.96**2)), rel=1e-3)
    assert of_passages == pytest.approx(1.96 / (2 * (20 + 1.96**2)), rel=1e-3)
    assert standard_error([score]) is None


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_a_peak_belongs_to_its_phase_alone() -> None:
    meter = PeakMeter()
    with meter.phase("large"):
        block = bytearray(200 << 20)
        block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
        del block
    with meter.phase("small"):
        pass
    large, small = meter.peaks_bytes["large"], meter.peaks_bytes["small"]
    assert large is not None
    assert small is not None
    assert large > 190 << 20 > small


_IMPORTS = """
from runtime_matrix.experiments.measurement.memory import PeakMeter

def touched(mib):
    block = bytearray(mib << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    return block

meter = PeakMeter()
with meter.phase("load"):
    passing = touched(60)
    del passing
    with meter.imports():
        package = touched(200)
    weights = touched(40)
print(meter.import_bytes, meter.gained_bytes(), meter.peaks_bytes["load"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_memory_of_imports_is_in_no_peak() -> None:
    # In a process of its own: the system may take idle pages of this one away meanwhile.
    done = subprocess.run([sys.executable, "-c", _IMPORTS], cwd=ROOT, capture_output=True, text=True, check=True)
    imported, gained, peak = map(int, done.stdout.split())
    assert imported > 190 << 20
    assert 35 << 20 < gained < 55 << 20 < peak < 75 << 20  # the peak was before the import


def _process(proc: Path, pid: int | str, children: str, resident_kib: int, peak_kib: int) -> None:
    tasks = proc / str(pid) / "task" / "1"
    tasks.mkdir(parents=True)
    (tasks / "children").write_text(children)
    (proc / str(pid) / "status").write_text(f"Name:\tx\nVmHWM:\t{peak_kib} kB\nVmRSS:\t{resident_kib} kB\n")


def test_the_memory_of_descendants_counts(tmp_path: Path) -> None:
    me = os.getpid()
    _process(tmp_path, "self", "", 10, 20)
    # The last child has just ended.
    for pid, children, size in ((me, f"{me + 1} {me + 4} ", 10), (me + 1, f"{me + 2} ", 100), (me + 2, "", 1000)):
        _process(tmp_path, pid, children, size, 2 * size)
    _process(tmp_path, me + 3, "", 10_000, 20_000)
    assert sorted(descendants(proc=tmp_path)) == [me + 1, me + 2, me + 4]
    assert tree_resident_bytes(tmp_path) == 1110 * 1024
    assert tree_peak_bytes(tmp_path) == 2220 * 1024
    assert tree_peak_bytes(tmp_path / "none") is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_cpu_time_of_live_and_ended_children_counts() -> None:
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\ninput()"
    clock = TreeClock()
    start = clock()
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "done\n"
    clock.refresh()
    alive = clock() - start
    assert 0.3 <= alive < 0.6
    child.communicate("\n")
    clock.refresh()
    assert clock() - start == pytest.approx(alive, abs=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_a_model_in_a_child_process_is_in_the_peak() -> None:
    code = "b = bytearray(150 << 20); b[::4096] = b'x' * len(b[::4096]); print('held', flush=True); input()"
    meter = PeakMeter()
    with meter.phase("load"):
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        assert child.pid in descendants()
    child.communicate("\n")
    peak = meter.peaks_bytes["load"]
    assert peak is not None
    assert peak > 150 << 20
    assert child.pid not in descendants()


def test_a_sampler_keeps_the_highest_value() -> None:
    values = iter([3, 9, 4])
    seen = threading.Event()

    def read() -> int:
        value = next(values, 5)
        if value == 4:
            seen.set()
        return value

    with Sampler(read, every_s=0.0) as sampler:
        assert seen.wait(5)
    assert sampler.highest == 9


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_the_memory_of_another_process_is_sampled_at_most_twice_per_second() -> None:
    times = iter([0.0, 0.0, 0.2, 0.5, 1.7])
    trace = MemoryTrace(os.getpid(), lambda: next(times))
    for _ in range(4):
        trace.take()
    assert [seconds for seconds, _ in trace.samples] == [0.0, 0.5, 1.7]
    assert all(resident > 2**20 for _, resident in trace.samples)


def test_an_ended_process_adds_no_samples() -> None:
    trace = MemoryTrace(2**22 + 1)  # above the kernel's largest
    trace.take()
    assert trace.samples == []
