"""What observing costs on the bundled model: a cached response against a computed one, and memory by their number."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.evaluation.observing import OUTPUTS, observe
from runtime_matrix.runtimes.base import Runtime, Traits
from tests.conftest import ROOT
from tests.experiments.evaluation.observed_runtime import same
from tests.experiments.execution.worker.observe_many import bench_of, bundled_eager, short_requests

LEAST_SPEEDUP = 50
MOST_GROWTH = 1.10  # of memory, from 100 responses to 1,000


@pytest.fixture(scope="module")
def loaded() -> tuple[Runtime, Traits]:
    runtime, traits = bundled_eager()
    if not traits.outputs >= OUTPUTS:
        pytest.skip("eager does not give the outputs to observe")
    return runtime, traits


def test_a_batch_of_the_bundled_model_gives_the_same_as_one_by_one(loaded: tuple[Runtime, Traits]) -> None:
    requests = list(short_requests(12, loaded[1].vocabulary))
    alone = [observe(*loaded, [request])[0] for request in requests]
    assert all(same(*pair, tolerance=1e-4) for pair in zip(observe(*loaded, requests), alone, strict=True))


@pytest.mark.alone
def test_a_cached_response_is_much_faster_than_a_computed_one(loaded: Any, tmp_path: Path) -> None:
    requests = list(short_requests(60, loaded[1].vocabulary))
    path = tmp_path / "observations.sqlite"
    times = []
    for use in (False, True):
        bench = bench_of(loaded, path, use)
        assert bench.traits
        start = time.perf_counter()
        observer = bench.observer(len(requests))
        list(observer.observe(requests))
        times.append(time.perf_counter() - start)
        bench.observations.close()
    computed_s, cached_s = times
    print(f"computed {1000 * computed_s / 60:.3f} ms, cached {1000 * cached_s / 60:.3f} ms per response")
    assert observer.figures()["cached_responses"] == len(requests)
    assert computed_s / cached_s >= LEAST_SPEEDUP


@pytest.mark.alone
def test_what_is_held_does_not_grow_with_the_number_of_responses(loaded: Any) -> None:
    command = [sys.executable, "-m", "tests.experiments.execution.worker.observe_many"]
    peaks = []
    for count in (100, 1000):
        done = subprocess.run([*command, str(count)], cwd=ROOT, capture_output=True, text=True, check=True)
        if done.stdout == "None\n":
            pytest.skip("this system does not report peaks of memory")
        peaks.append(int(done.stdout))
    print(f"peaks of {peaks[0] / 2**20:.1f} MiB for 100 responses and {peaks[1] / 2**20:.1f} MiB for 1,000")
    assert peaks[1] <= MOST_GROWTH * peaks[0]
