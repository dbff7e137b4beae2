from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from runtime_matrix.experiments.execution.worker.token_budget import fit
from runtime_matrix.runtimes.base import Hardware, ModelSource, Runtime, Traits
from runtime_matrix.runtimes.engines.fake import Fake


@pytest.fixture
def fake() -> tuple[Runtime, Traits]:
    runtime = Fake(vocabulary=128, max_length=256)
    source = ModelSource("tiny", None, {"model_type": "llama", "vocab_size": 128})
    return runtime, runtime.load(source, Hardware("cpu", 1, Path("unused")), lambda name: nullcontext())


def peaks(*values: int | None) -> Callable[[Callable[[], None]], int | None]:
    coming = iter(values)

    def peak_bytes_of(work: Callable[[], None]) -> int | None:
        work()
        return next(coming)

    return peak_bytes_of


def test_the_budget_follows_from_two_measured_passes_and_leaves_a_margin(fake: tuple[Runtime, Traits]) -> None:
    # 3072 tokens more took 3072 kB more: 1 kB a token, and a quarter of 8 MB stays free.
    found = fit(*fake, free_bytes=8_000_000, peak_bytes_of=peaks(5_000_000, 8_072_000))
    assert found.bytes_per_token == 1000
    assert found.token_budget == 6000
    assert not found.was_capped


def test_a_budget_beyond_the_cap_is_capped_and_recorded_as_such(fake: tuple[Runtime, Traits]) -> None:
    found = fit(*fake, free_bytes=10**12, peak_bytes_of=peaks(5_000_000, 8_072_000))
    assert found.was_capped
    assert found.token_budget == 65536


def test_too_little_memory_for_one_row_is_out_of_memory(fake: tuple[Runtime, Traits]) -> None:
    with pytest.raises(MemoryError, match="a row of 128 tokens takes 128000 bytes, 10000 are free"):
        fit(*fake, free_bytes=10_000, peak_bytes_of=peaks(5_000_000, 8_072_000))


def test_an_unknown_peak_is_an_error(fake: tuple[Runtime, Traits]) -> None:
    with pytest.raises(ValueError, match="use batch=null"):
        fit(*fake, free_bytes=10**9, peak_bytes_of=peaks(None, None))
