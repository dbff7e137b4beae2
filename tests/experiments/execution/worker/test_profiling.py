"""The profile of a loaded runtime: each phase by itself, per step, with the engine's operations."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from runtime_matrix.experiments.execution.worker.profiling import profile_of
from runtime_matrix.experiments.records.profile import read_profile, write_profile
from runtime_matrix.runtimes.base import Hardware, ModelSource
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.engines.fake import Fake


def test_a_profile_has_the_products_of_each_phase(tiny_model: Path, tmp_path: Path) -> None:
    with Eager() as runtime:
        traits = runtime.load(ModelSource("tiny", tiny_model), Hardware("cpu", 1, tmp_path), lambda name: nullcontext())
        profile = profile_of(runtime, traits, 1)
    calls = {
        name: sum(one.calls for one in phase.operations if one.kind == "products" and one.name == "aten::mm")
        for name, phase in profile.phases.items()
    }
    assert calls["prefill"] == calls["decode"] > 0  # per step: the layers' products, once each
    for phase in profile.phases.values():
        assert phase.wall_s > 0
        assert phase.profiled_s == pytest.approx(sum(phase.kinds().values()), rel=0.05)
    write_profile(tmp_path, profile)
    assert read_profile(tmp_path) == (profile, None)


def test_an_engine_without_a_profiler_has_times_alone(tmp_path: Path) -> None:
    with Fake() as runtime:
        traits = runtime.load(ModelSource("fake"), Hardware("cpu", 1, tmp_path), lambda name: nullcontext())
        profile = profile_of(runtime, traits, 1)
    assert {phase.profiled_s for phase in profile.phases.values()} == {None}
    assert all(phase.kinds() == {} for phase in profile.phases.values())
