from __future__ import annotations

import math
from typing import Any

import pytest

from runtime_matrix.experiments.records.speed import (
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


def launch(candidate_s: float, reference_s: float = 1.0, peaks: tuple[int | None, int | None] = (2, 1)) -> Any:
    """Return a launch in which a prefill takes the square of a step, and one thread twice the wall time of two."""

    def side(seconds: float, cpu_s: float) -> dict[str, Any]:
        return {
            "prefill": {"wall_s": [seconds**2] * 4, "cpu_s": [cpu_s**2] * 4},
            "decode": {"wall_s": [seconds] * 4, "cpu_s": [cpu_s] * 4},
            "steps_s": [[seconds] * 9 + [3 * seconds]] * 4,
            "recompiles": 1,
        }

    def block(factor: float) -> dict[str, Any]:
        sides = {"candidate": candidate_s * factor, "reference": reference_s * factor}
        return {name: side(seconds, seconds) for name, seconds in sides.items()}

    return {
        "own": block(1.0),
        "long": None,
        "batched": block(4.0),
        "one_thread": block(2.0),
        "threads": 2,
        "device": "cpu",
        "candidate_memory": {"peak_host_bytes": peaks[0]},
        "reference_memory": {"peak_host_bytes": peaks[1]},
    }


def test_a_launch_is_one_log_ratio_of_the_asked_phase_and_clock() -> None:
    launches = [launch(2.0), launch(0.5)]
    for clock in Clock:
        assert log_ratios(launches, "decode", clock) == pytest.approx([math.log(2), -math.log(2)])
        assert log_ratios(launches, "prefill", clock) == pytest.approx([2 * math.log(2), -2 * math.log(2)])
    launches[0]["own"]["candidate"]["decode"]["wall_s"] = [4.0] * 4
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


def test_above_1_is_faster() -> None:
    found = ratio([launch(0.5), launch(0.5), launch(0.5)], "decode", Clock.WALL)
    assert found is not None
    assert (found.low, found.estimate, found.high) == pytest.approx((2, 2, 2))
    slower = ratio([launch(2.0, 1.1), launch(2.0), launch(2.0, 0.9)], "decode", Clock.WALL)
    assert slower is not None
    assert slower.low < slower.estimate < slower.high < 1


def test_a_higher_level_is_a_wider_interval() -> None:
    launches = [launch(1.0), launch(1.1), launch(0.9)]
    usual, high = (ratio(launches, "decode", Clock.WALL, level) for level in (0.95, 0.99))
    assert usual is not None
    assert high is not None
    assert (usual.level, high.level) == (0.95, 0.99)
    assert high.low < usual.low < 1 < usual.high < high.high


def test_a_cell_that_waits_is_not_bound_by_its_cpu_time() -> None:
    honest = [launch(2.0), launch(2.0)]
    assert is_cpu_bound(honest, "decode") is True
    sleeping = [launch(2.0), launch(2.0)]
    for one in sleeping:
        one["one_thread"]["candidate"]["decode"]["wall_s"] = [6.0] * 4  # of which it computes for 4
    assert is_cpu_bound(sleeping, "decode") is False
    found = waiting(sleeping, "decode")
    assert found is not None
    assert found.estimate == pytest.approx(1.5)
    assert is_cpu_bound([], "decode") is None


def test_threads_and_recompiles_are_counted_over_launches() -> None:
    assert thread_scaling([launch(2.0)], "candidate") == pytest.approx(2)
    assert recompiles([launch(2.0), launch(2.0)]) == 6  # three blocks each
    silent = launch(2.0)
    for name in ("own", "batched", "one_thread"):
        silent[name]["candidate"]["recompiles"] = None
    assert recompiles([silent]) is None


def test_one_launch_has_no_interval() -> None:
    assert ratio([], "decode", Clock.WALL) is None
    assert ratio([launch(0.5)], "decode", Clock.WALL) is None
    assert memory_ratio([launch(1.0)]) is None


def test_above_1_is_more_memory() -> None:
    found = memory_ratio([launch(1.0, peaks=(300, 100)), launch(1.0, peaks=(600, 200))])
    assert found is not None
    assert found.estimate == pytest.approx(3)


@pytest.mark.parametrize("peaks", [(None, 1), (1, None), (1, 0)])
def test_unknown_memory_has_no_ratio(peaks: tuple[int | None, int | None]) -> None:
    assert memory_ratio([launch(1.0), launch(1.0, peaks=peaks)]) is None


def test_on_a_gpu_its_own_memory_is_compared() -> None:
    found = [launch(1.0, peaks=(300, 100)) | {"device": "cuda"} for _ in range(2)]
    assert memory_ratio(found) is None  # of launches that did not measure it
    for one in found:
        one["candidate_memory"]["peak_device_bytes"] = 100
        one["reference_memory"]["peak_device_bytes"] = 200
    ratio = memory_ratio(found)
    assert ratio is not None
    assert ratio.estimate == pytest.approx(0.5)
