"""What is known is not computed again, what is computed is stored batch by batch, and figures tell the two apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typing_extensions import override

from runtime_matrix.experiments.evaluation.observing import observe
from runtime_matrix.experiments.evaluation.requests import Observed, ObserveRequest
from runtime_matrix.experiments.execution.worker import observing
from runtime_matrix.experiments.execution.worker.bench import CellBench
from runtime_matrix.runtimes.base import LOGITS, Traits
from tests.experiments.evaluation.observed_runtime import FakeObserved, fake_traits, observe_requests, same
from tests.experiments.execution.worker.observe_many import bench_of

REQUESTS = observe_requests(9)
EXPECTED = observe(FakeObserved(), fake_traits(), REQUESTS)
WINDOW = 3  # requests


class Failing(FakeObserved):
    """Fails at the third forward."""

    @override
    def forward(self, *arguments: Any, **options: Any) -> Any:
        if len(self.shapes) == 2:
            raise MemoryError("out of memory")
        return super().forward(*arguments, **options)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., CellBench]]:
    """Return a function that makes the bench of a cell with a fake runtime."""
    with ExitStack() as opened:

        def make(
            use: bool = True, stored: bool = True, runtime: Any = None, traits: Traits | None = None, **options: Any
        ) -> CellBench:
            path = tmp_path / "observations.sqlite" if stored else None
            loaded = (runtime or FakeObserved(), traits or fake_traits())
            bench = bench_of(loaded, path, use, planning_window=WINDOW, **options)
            opened.callback(bench.observations.close)
            return bench

        yield make


def observed(bench: CellBench, requests: Sequence[ObserveRequest]) -> tuple[list[Observed], dict[str, Any]]:
    observer = bench.observer(len(requests))
    results = list(observer.observe(iter(requests)))
    return results, observer.figures()


def counts(figures: dict[str, Any]) -> tuple[int, ...]:
    return tuple(figures[f"{name}_responses"] for name in ("observed", "computed", "cached", "duplicate"))


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("use", [True, False])
def test_duplicates_within_a_run_are_computed_once(make: Callable[..., CellBench], stored: bool, use: bool) -> None:
    repeated = [*REQUESTS, REQUESTS[0], REQUESTS[0], *REQUESTS]
    results, figures = observed(make(use, stored), repeated)
    assert all(map(same, results, [*EXPECTED, EXPECTED[0], EXPECTED[0], *EXPECTED]))
    assert counts(figures) == (20, 9, 0, 11)
    assert figures["duplicate_ratio"] == 11 / 20
    assert figures["computed_tokens"] == sum(len(request.ids) - 1 for request in REQUESTS)
    assert figures["cache_note"] is None


def test_duplicates_of_earlier_runs_are_found_without_loading_the_model(make: Callable[..., CellBench]) -> None:
    observed(make(use=False), REQUESTS[:6])
    bench = make()
    results, figures = observed(bench, REQUESTS[:6] + REQUESTS[:1])
    assert all(map(same, results, EXPECTED[:6] + EXPECTED[:1]))
    assert counts(figures) == (7, 0, 6, 1)
    assert figures["compute_s"] is None
    assert not bench.is_loaded
    _, figures = observed(bench, REQUESTS)
    assert counts(figures) == (9, 3, 6, 0)
    assert bench.is_loaded


def test_earlier_runs_are_not_read_unless_asked(make: Callable[..., CellBench]) -> None:
    observed(make(), REQUESTS)
    assert counts(observed(make(use=False), REQUESTS)[1]) == (9, 9, 0, 0)
    assert counts(observed(make(stored=False), REQUESTS)[1]) == (9, 9, 0, 0)
    assert counts(observed(make(batch_invariant=True), REQUESTS)[1]) == (9, 9, 0, 0)


def test_what_was_computed_before_a_failure_is_stored(make: Callable[..., CellBench]) -> None:
    with pytest.raises(MemoryError):
        observed(make(runtime=Failing(), batch=False), REQUESTS)
    assert counts(observed(make(), REQUESTS)[1]) == (9, 8, 1, 0)  # the first forward only warms up


def test_only_computing_is_timed(make: Callable[..., CellBench], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def taking(seconds: float, function: Any) -> Any:
        def taken(*arguments: Any, **options: Any) -> Any:
            clock[0] += seconds
            return function(*arguments, **options)

        return taken

    runtime = FakeObserved()
    bench = make(runtime=runtime, batch=False)
    monkeypatch.setattr(observing, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(runtime, "forward", taking(1, runtime.forward))
    monkeypatch.setattr(bench, "load", taking(100, bench.load))
    monkeypatch.setattr(bench.observations, "keep", taking(1000, bench.observations.keep))
    _, figures = observed(bench, REQUESTS[:4])
    assert figures["compute_s"] == 4
    _, figures = observed(bench, REQUESTS[:5])
    assert figures["compute_s"] == 1


def test_progress_counts_every_response(make: Callable[..., CellBench]) -> None:
    reports: list[tuple[int, int]] = []
    observed(make(report=lambda done, total: reports.append((done, total))), REQUESTS[:4] * 2)
    done = [done for done, _ in reports]
    assert done == sorted(done)
    assert reports[-1] == (8, 8)


def test_a_runtime_without_the_outputs_is_skipped_in_one_line(make: Callable[..., CellBench]) -> None:
    reason = "fake does not give external_context and parametric_knowledge; runtime=eager does"
    bench = make(traits=fake_traits(outputs=LOGITS))
    with pytest.raises(pytest.skip.Exception, match=f"^{reason}$"):
        observed(bench, REQUESTS)
    assert bench.is_loaded
    with pytest.raises(pytest.skip.Exception, match=f"^{reason}$"):
        bench.observer(1)


def test_an_engine_of_whole_requests_is_skipped(make: Callable[..., CellBench]) -> None:
    with pytest.raises(pytest.skip.Exception, match="takes whole requests"):
        observed(make(runtime=object()), REQUESTS)
