from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from runtime_matrix.experiments.measurement.machine import MachineChange
from runtime_matrix.experiments.records.comparison import Block, Launch, PeakMemory, Side, Times
from runtime_matrix.experiments.records.ratios import (
    Clock,
    is_cpu_bound,
    log_ratios,
    memory_ratio,
    ratio,
    recompiles,
    seconds,
    thread_scaling,
    waiting,
)


def launch(candidate_s: float, reference_s: float = 1.0, peaks: tuple[int | None, int | None] = (2, 1)) -> Launch:
    """Return a launch in which a prefill takes the square of a step, and one thread twice the wall time of two."""

    def side(seconds: float) -> Side:
        return Side(
            prefill=Times(wall_s=[seconds**2] * 4, cpu_s=[seconds**2] * 4),
            decode=Times(wall_s=[seconds] * 4, cpu_s=[seconds] * 4),
            steps_s=[[seconds] * 9 + [3 * seconds]] * 4,
            rounds_cpu_s=1.0,
            between_cpu_s=0.0,
            recompiles=1,
        )

    def block(factor: float) -> Block:
        mine, theirs = side(candidate_s * factor), side(reference_s * factor)
        return Block(candidate=mine, reference=theirs, batch=1, prompt_tokens=[8] * 4)

    return Launch(
        own=block(1.0),
        long=None,
        batched=block(4.0),
        one_thread=block(2.0),
        threads=2,
        device="cpu",
        machine=MachineChange(),
        candidate_memory=PeakMemory(peak_host_bytes=peaks[0]),
        reference_memory=PeakMemory(peak_host_bytes=peaks[1]),
    )


def with_decode_s(block: Block | None, wall_s: float) -> Block:
    """Return the block with another wall time of the candidate's steps."""
    assert block is not None
    decode = replace(block.candidate.decode, wall_s=[wall_s] * 4)
    return replace(block, candidate=replace(block.candidate, decode=decode))


def test_a_launch_gives_one_log_ratio_per_phase_and_clock() -> None:
    launches = [launch(2.0), launch(0.5)]
    for clock in Clock:
        assert log_ratios(launches, "decode", clock) == pytest.approx([math.log(2), -math.log(2)])
        assert log_ratios(launches, "prefill", clock) == pytest.approx([2 * math.log(2), -2 * math.log(2)])
    launches[0] = replace(launches[0], own=with_decode_s(launches[0].own, 4.0))
    assert log_ratios(launches, "decode", Clock.WALL)[0] == pytest.approx(math.log(4))
    assert log_ratios(launches, "decode", Clock.CPU)[0] == pytest.approx(math.log(2))
    assert log_ratios(launches, "long_decode", Clock.WALL) == []  # not measured
    with pytest.raises(KeyError):
        log_ratios(launches, "decoding", Clock.WALL)


@pytest.mark.parametrize(
    ("phase", "expected"),
    [("decode", 2.0), ("prefill", 4.0), ("request", 4 + 12 * 2), ("throughput", 64 + 12 * 8), ("decode_p95", 6.0)],
)
def test_seconds_of_a_launch_are_wall_time_at_the_cells_own_threads(phase: str, expected: float) -> None:
    assert seconds([launch(2.0)], phase) == pytest.approx([expected])


def test_a_ratio_above_1_is_faster() -> None:
    found = ratio([launch(0.5), launch(0.5), launch(0.5)], "decode", Clock.WALL)
    assert found is not None
    assert (found.low, found.estimate, found.high) == pytest.approx((2, 2, 2))
    slower = ratio([launch(2.0, 1.1), launch(2.0), launch(2.0, 0.9)], "decode", Clock.WALL)
    assert slower is not None
    assert slower.low < slower.estimate < slower.high < 1


def test_a_higher_level_gives_a_wider_interval() -> None:
    launches = [launch(1.0), launch(1.1), launch(0.9)]
    usual, high = (ratio(launches, "decode", Clock.WALL, level) for level in (0.95, 0.99))
    assert usual is not None
    assert high is not None
    assert (usual.level, high.level) == (0.95, 0.99)
    assert high.low < usual.low < 1 < usual.high < high.high


def test_a_cell_that_waits_is_not_cpu_bound() -> None:
    honest = [launch(2.0), launch(2.0)]
    assert is_cpu_bound(honest, "decode") is True
    sleeping = [
        replace(one, one_thread=with_decode_s(one.one_thread, 6.0))  # of which it computes for 4
        for one in honest
    ]
    assert is_cpu_bound(sleeping, "decode") is False
    found = waiting(sleeping, "decode")
    assert found is not None
    assert found.estimate == pytest.approx(1.5)
    assert is_cpu_bound([], "decode") is None


def test_threads_and_recompiles_are_counted_over_launches() -> None:
    assert thread_scaling([launch(2.0)], "candidate") == pytest.approx(2)
    assert recompiles([launch(2.0), launch(2.0)]) == 6  # three blocks each
    silent = {
        name: replace(block, candidate=replace(block.candidate, recompiles=None))
        for name, block in launch(2.0).blocks().items()
    }
    assert recompiles([replace(launch(2.0), **silent)]) is None


def test_one_launch_has_no_interval() -> None:
    assert ratio([], "decode", Clock.WALL) is None
    assert ratio([launch(0.5)], "decode", Clock.WALL) is None
    assert memory_ratio([launch(1.0)]) is None


def test_a_memory_ratio_above_1_is_more_memory() -> None:
    found = memory_ratio([launch(1.0, peaks=(300, 100)), launch(1.0, peaks=(600, 200))])
    assert found is not None
    assert found.estimate == pytest.approx(3)


@pytest.mark.parametrize("peaks", [(None, 1), (1, None), (1, 0)])
def test_unknown_memory_has_no_ratio(peaks: tuple[int | None, int | None]) -> None:
    assert memory_ratio([launch(1.0), launch(1.0, peaks=peaks)]) is None


def test_device_memory_is_compared_on_a_gpu() -> None:
    launches = [replace(launch(1.0, peaks=(300, 100)), device="cuda")] * 2
    assert memory_ratio(launches) is None  # of launches that did not measure it
    mine, theirs = (PeakMemory(peak_device_bytes=size) for size in (100, 200))
    ratio = memory_ratio([replace(one, candidate_memory=mine, reference_memory=theirs) for one in launches])
    assert ratio is not None
    assert ratio.estimate == pytest.approx(0.5)
