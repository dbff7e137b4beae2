"""`python -m tests.experiments.execution.worker.observe_many N`: observe N responses by the bundled model in eager.

Prints by how many bytes the process's memory rose above its level with the model loaded.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from runtime_matrix.experiments.config.schema import ScoringConfig
from runtime_matrix.experiments.evaluation.observation_cache import Observations
from runtime_matrix.experiments.evaluation.observing import observe
from runtime_matrix.experiments.evaluation.requests import ObserveRequest
from runtime_matrix.experiments.execution.worker.bench import CellBench, LoadedRuntime
from runtime_matrix.experiments.measurement.memory import reset_peak, tree_peak_bytes, tree_resident_bytes
from runtime_matrix.runtimes.base import Hardware, ModelSource, Runtime, Traits
from runtime_matrix.runtimes.engines.eager import Eager
from tests.conftest import ROOT

_MODEL = ROOT / "experiments" / "bundled" / "model"


def bundled_eager() -> tuple[Runtime, Traits]:
    runtime = Eager()
    return runtime, runtime.load(ModelSource("bundled", _MODEL), Hardware("cpu", 2), lambda _: nullcontext())


def bench_of(
    loaded: tuple[Any, Traits],
    path: Path | None = None,
    use: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
    **scoring: Any,
) -> CellBench:
    """Return the bench of a cell with a runtime and a cache; with `use` the cache is read."""
    nothing: Any = None
    config = SimpleNamespace(scoring=ScoringConfig(**scoring), runtime=SimpleNamespace(name="fake"))
    cell: Any = SimpleNamespace(config=config)
    runtime = LoadedRuntime(*loaded, "cpu", nothing)
    observations = Observations(path, {"model": "m"}, use)
    return CellBench(cell, lambda: runtime, nothing, nothing, observations, ROOT, nothing, report, ExitStack())


def short_requests(count: int, vocabulary: int) -> Iterator[ObserveRequest]:
    """Yield requests of 60 to 100 random tokens, a fifth to two fifths of them the response."""
    drawn = random.Random(0)
    for _ in range(count):
        length = drawn.randint(60, 100)
        first = length - drawn.randint(length // 5, 2 * length // 5)
        yield ObserveRequest(tuple(drawn.randrange(vocabulary) for _ in range(length)), range(1, first - 4), first)


def main(count: int) -> None:
    loaded = bundled_eager()
    vocabulary = loaded[1].vocabulary
    observe(*loaded, list(short_requests(2, vocabulary)))  # what the first forward allocates for good
    before = tree_resident_bytes()
    if before is None or not reset_peak():
        print("None")
        return
    observer = bench_of(loaded).observer(count)
    tokens = sum(len(result.logprobs_T) for result in observer.observe(short_requests(count, vocabulary)))
    assert tokens > 10 * count
    print((tree_peak_bytes() or 0) - before)


if __name__ == "__main__":
    main(int(sys.argv[1]))
