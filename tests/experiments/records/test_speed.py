from __future__ import annotations

import math
from typing import Any

import pytest

from experiments.records.speed import log_ratios, memory_ratio, ratio


def launch(candidate_s: float, reference_s: float = 1.0, peaks: tuple[int | None, int | None] = (2, 1)) -> Any:
    def times(seconds: float) -> dict[str, dict[str, list[float]]]:
        return {
            "decode": {"cpu_s": [seconds] * 4, "wall_s": [3 * seconds] * 4},
            "prefill": {"cpu_s": [seconds**2] * 4, "wall_s": [9 * seconds] * 4},
        }

    return {
        "candidate": times(candidate_s),
        "reference": times(reference_s),
        "candidate_memory": {"peak_host_bytes": peaks[0], "peak_device_bytes": None},
        "reference_memory": {"peak_host_bytes": peaks[1], "peak_device_bytes": None},
    }


def test_a_launch_is_one_log_ratio_of_the_asked_phase_and_clock() -> None:
    launches = [launch(2.0), launch(0.5)]
    assert log_ratios(launches, "decode") == pytest.approx([math.log(2), -math.log(2)])
    assert log_ratios(launches, "prefill") == pytest.approx([2 * math.log(2), -2 * math.log(2)])
    launches[0]["candidate"]["decode"]["wall_s"] = [12.0] * 4
    assert log_ratios(launches, "decode", "wall_s")[0] == pytest.approx(math.log(4))


def test_above_1_is_faster() -> None:
    found = ratio([launch(0.5), launch(0.5), launch(0.5)], "decode")
    assert found is not None
    assert (found.low, found.estimate, found.high) == pytest.approx((2, 2, 2))
    slower = ratio([launch(2.0, 1.1), launch(2.0), launch(2.0, 0.9)], "decode")
    assert slower is not None
    assert slower.low < slower.estimate < slower.high < 1


def test_a_higher_level_is_a_wider_interval() -> None:
    launches = [launch(1.0), launch(1.1), launch(0.9)]
    usual, high = ratio(launches, "decode"), ratio(launches, "decode", level=0.99)
    assert usual is not None
    assert high is not None
    assert (usual.level, high.level) == (0.95, 0.99)
    assert high.low < usual.low < 1 < usual.high < high.high


def test_one_launch_has_no_interval() -> None:
    assert ratio([], "decode") is None
    assert ratio([launch(0.5)], "decode") is None
    assert memory_ratio([launch(1.0)]) is None


def test_above_1_is_more_memory() -> None:
    found = memory_ratio([launch(1.0, peaks=(300, 100)), launch(1.0, peaks=(600, 200))])
    assert found is not None
    assert found.estimate == pytest.approx(3)


@pytest.mark.parametrize("peaks", [(None, 1), (1, None), (1, 0)])
def test_unknown_memory_has_no_ratio(peaks: tuple[int | None, int | None]) -> None:
    assert memory_ratio([launch(1.0), launch(1.0, peaks=peaks)]) is None
    assert memory_ratio([launch(1.0), launch(1.0)], "peak_device_bytes") is None
