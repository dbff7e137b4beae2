"""What a cell's plugin makes of a benchmark's outcome."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtime_matrix.experiments.config.schema import GenerationConfig
from runtime_matrix.experiments.execution.worker.bench import CellBench, LoadedRuntime
from runtime_matrix.experiments.execution.worker.plugin import ENTRY, CellPlugin
from runtime_matrix.experiments.records.journal import read_journal
from runtime_matrix.experiments.tasks.bench import OpenEntry
from runtime_matrix.runtimes.base import Hardware, ModelSource
from runtime_matrix.runtimes.engines.fake import Fake
from tests.experiments.test_run import Run, records


def test_a_figure_that_is_nan_is_an_error(tmp_path: Path) -> None:
    cell: Any = SimpleNamespace()
    plugin = CellPlugin(cell, tmp_path, None)
    item: Any = SimpleNamespace(stash={ENTRY: OpenEntry("perplexity", "test", figures={"perplexity": math.nan})})
    call: Any = SimpleNamespace(duration=1.0, stop=2.0, excinfo=None)
    report: Any = SimpleNamespace(skipped=False, failed=False)
    plugin._note(item, call, report)
    assert (plugin.status, plugin.reason) == ("error", "perplexity: the figure perplexity is not finite")
    (event,) = read_journal(tmp_path / "journal.jsonl")
    assert event["status"] == "failed"


@pytest.mark.parametrize("figures", [{"perplexity": 1.9}, {"perplexity": None}])
def test_numbers_and_null_are_valid_figures(tmp_path: Path, figures: dict[str, Any]) -> None:
    cell: Any = SimpleNamespace()
    plugin = CellPlugin(cell, tmp_path, None)
    item: Any = SimpleNamespace(stash={ENTRY: OpenEntry("perplexity", "test", figures=figures)})
    plugin._note(item, SimpleNamespace(duration=1.0, stop=2.0), SimpleNamespace(skipped=False, failed=False))  # type: ignore[arg-type]
    assert plugin.status == "ok"


def bench_of(cell: Any, runtime: Any, traits: Any, folder: Path) -> CellBench:
    nothing: Any = None
    loaded = LoadedRuntime(runtime, traits, "cpu", nothing)
    return CellBench(cell, lambda: loaded, nothing, nothing, nothing, folder, nothing, nothing, ExitStack())


def test_a_batch_larger_than_the_runtime_s_is_skipped_with_the_reason(tmp_path: Path) -> None:
    traits: Any = SimpleNamespace(max_batch=8)
    cell: Any = SimpleNamespace(config=SimpleNamespace(runtime=SimpleNamespace(name="tensorrt")))
    bench = bench_of(cell, None, traits, tmp_path)
    bench.require_rows(8)
    with pytest.raises(pytest.skip.Exception, match="needs batches of 32 rows; tensorrt takes 8"):
        bench.require_rows(32)


def test_the_first_call_of_a_shape_is_run_once(tmp_path: Path) -> None:
    runtime = Fake(vocabulary=16, max_length=32)
    traits = runtime.load(ModelSource("fake"), Hardware("cpu", 1), lambda name: nullcontext())
    cell: Any = SimpleNamespace(config=SimpleNamespace(generation=GenerationConfig()))
    bench = bench_of(cell, runtime, traits, tmp_path)
    first = bench.first_call([[3, 4], [3, 4]], 3)
    assert bench.first_call([[5, 6], [5, 6]], 3) is first
    assert bench.first_call([[3, 4]], 3) is not first  # another shape compiles anew


def test_memory_is_measured_before_larger_batches_and_runs_the_first_call(run: Run, tmp_path: Path) -> None:
    words = ["model=random", "benchmark=[latency,memory]", "benchmark.latency.batch=[1,8]"]
    shape = [f"benchmark.{name}.{key}" for name in ("latency", "memory") for key in ("prompt_tokens=8", "new_tokens=4")]
    done = run(*words, *shape, "benchmark.latency.iterations=3", "agreement.enabled=false")
    assert done.returncode == 0, done.stderr
    (record,) = records(tmp_path)
    entries: Any = record["benchmarks"]
    assert [entry["benchmark"] for entry in entries] == ["memory", "latency", "latency"]
    alike, larger = entries[1:]
    assert alike["figures"]["first_call_s"] > 0
    assert larger["figures"]["first_call_s"] > 0
    assert entries[0]["figures"]["peak_host_bytes"] > 0
    assert entries[0]["figures"]["peak_device_bytes"] is None


def test_pytest_benchmark_s_json_holds_speed_memory_and_accuracy(run: Run, tmp_path: Path) -> None:
    words = ["runtime=eager", "benchmark=[latency,memory,multiple_choice]", "benchmark.multiple_choice.limit=8"]
    done = run(*words, "benchmark.latency.iterations=2", "agreement.enabled=false", "comparison.enabled=false")
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.rglob("pytest-benchmark.json")
    found = {entry["name"]: entry for entry in json.loads(path.read_text())["benchmarks"]}
    assert list(found) == ["memory", "latency-b1-p64-n32", "multiple_choice"]
    assert len(found["latency-b1-p64-n32"]["stats"]["data"]) == 2
    assert found["latency-b1-p64-n32"]["extra_info"]["cpu_utilisation_ratio"] > 0
    assert found["memory"]["extra_info"]["peak_host_bytes"] > 0
    assert 0 <= found["multiple_choice"]["extra_info"]["accuracy"] <= 1
    assert found["multiple_choice"]["extra_info"]["parameters"]["shots"] == 1


def test_each_grid_point_has_its_own_items_file(tmp_path: Path) -> None:
    bench = bench_of(None, None, None, tmp_path)
    for point in ("", "long"):
        entry = OpenEntry("code", point)
        bench.write_items(entry, [{"id": point}])
        assert entry.items_file is not None
        assert json.loads((tmp_path / entry.items_file).read_text()) == {"id": point}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items-code-long.jsonl", "items-code.jsonl"]
