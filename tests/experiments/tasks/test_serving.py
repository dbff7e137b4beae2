from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.tasks.serving import TASK, ServingConfig

Run = Callable[..., subprocess.CompletedProcess[str]]
SMALL = (
    *("benchmark=[serving]", "hw.threads=1", "benchmark.serving.warmup=1", "benchmark.serving.checked_texts=3"),
    *("benchmark.serving.prompt_tokens=[4,9]", "benchmark.serving.new_tokens=[2,6]"),
)


def config(**options: Any) -> ServingConfig:
    plain = compose(["benchmark=[serving]"])["benchmark"]["serving"]
    made: ServingConfig = build(ServingConfig, {**plain, **options}, "benchmark.serving")
    return made


def serving(folder: Path) -> list[dict[str, Any]]:
    (path,) = folder.glob("runs/*/record.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["status"] == "ok", record["reason"]
    return [entry for entry in record["benchmarks"] if entry["benchmark"] == "serving"]


def test_each_load_is_a_grid_point(tmp_path: Path) -> None:
    loads = config(concurrency=[1, 8], rates=[0.5, 20], find="max_rate_under_slo")
    assert TASK.grid(loads) == ["c1", "c8", "r0.5", "r20", "max-rate"]
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"prompt_tokens": 300, "new_tokens": 5, "at_s": 0}\n')
    timed = config(concurrency=[2], rates=[5], trace=str(trace))
    assert TASK.grid(timed) == ["c2", "trace"]
    assert [(shape.prompt_tokens, shape.new_tokens) for shape in TASK.shapes(timed)] == [(300, 5)]
    trace.write_text('{"prompt_tokens": 300, "new_tokens": 5}\n')
    assert TASK.grid(timed) == ["c2", "r5"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"concurrency": []}, "has no load: set concurrency, rates, trace or find"),
        (
            {"find": "max_rate_under_slo", "slo": {"ttft_s": None, "tpot_s": None, "e2e_s": None, "share": 0.9}},
            "find needs an objective",
        ),
        ({"shared_prefix_tokens": 32}, "must be below the shortest of prompt_tokens, 32"),
        ({"trace": "/none.jsonl"}, "/none.jsonl cannot be read"),
        ({"concurrency": [0]}, "concurrency"),
        ({"rates": [-1]}, "rates"),
        ({"arrivals": "uniform"}, "arrivals"),
        ({"requests": 0}, "requests"),
        ({"find": "max_rate"}, "find"),
        ({"slo": {"ttft_s": 1, "tpot_s": 1, "e2e_s": 1, "share": 1.5}}, "slo.share"),
    ],
)
def test_contradicting_options_are_one_line(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason) as error:
        TASK.check(config(**options))
    assert "\n" not in str(error.value)


def test_a_search_over_a_single_rate_is_refused() -> None:
    with pytest.raises(UserError, match="find_rates"):
        TASK.check(config(find="max_rate_under_slo", find_rates=[5]))


@pytest.mark.parametrize("runtime", ["eager", "llama_server"])
def test_a_cell_under_load(run: Run, tmp_path: Path, runtime: str) -> None:
    if runtime == "llama_server":
        pytest.importorskip("xllamacpp")
        pytest.importorskip("httpx")
    done = run(
        f"runtime={runtime}", *SMALL, "benchmark.serving.concurrency=[3]", "benchmark.serving.rates=[100]",
        "benchmark.serving.requests=9",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    closed, opened = serving(tmp_path)
    for entry in (closed, opened):
        found = entry["figures"]
        assert found["completed_requests"] == found["requests"] == 9
        assert found["short_requests"] == 0
        assert found["new_tokens"] == found["server_new_tokens"] == len(entry["samples"]["itl_s"]) + 9
        assert found["same_texts"] == found["checked_texts"] == 3
        assert found["server_cpu_s"] > 0
        assert len(entry["samples"]["ttft_s"]) == len(entry["samples"]["lateness_s"]) == 9
        assert min(entry["samples"]["ttft_s"]) > 0
        assert found["server_counters"]
    assert closed["figures"]["most_in_flight"] == 3
    assert closed["parameters"]["concurrency"] == 3
    assert opened["parameters"]["rate_requests_per_s"] == 100


def test_a_trace_and_a_search(run: Run, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    lines = [{"prompt_tokens": 4 + number, "new_tokens": 3, "at_s": 0.01 * number} for number in range(5)]
    trace.write_text("\n".join(map(json.dumps, lines)))
    done = run(
        "runtime=eager", *SMALL, "benchmark.serving.concurrency=[]", f"benchmark.serving.trace={trace}",
        "benchmark.serving.requests=9", "benchmark.serving.find=max_rate_under_slo", "benchmark.serving.slo.ttft_s=30",
        "benchmark.serving.slo.tpot_s=30", "benchmark.serving.find_rates=[50,100]", "benchmark.serving.find_load_s=0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    traced, search = serving(tmp_path)
    assert traced["figures"]["prompt_tokens"] == sum(line["prompt_tokens"] for line in lines)
    assert traced["figures"]["offered_requests_per_s"] == pytest.approx(100)
    assert search["figures"]["max_rate_requests_per_s"] == 100  # such an objective always holds
    assert search["figures"]["max_rate_requests_per_s_high"] is None
    assert [trial["requests"] for trial in search["figures"]["tried_rates"]] == [10, 10]


@pytest.mark.parametrize(("waited_s", "share"), [(None, None), (0.5, 0.0), (2.0, 0.2)])
def test_a_starved_client_is_a_warning(waited_s: float | None, share: float | None) -> None:
    (metric,) = (metric for metric in TASK.metrics if metric.key == "serving_client_starved_ratio")
    entry = Entry(benchmark="serving", status="ok", figures={"client_waited_s": waited_s, "duration_s": 10.0})
    assert metric.is_warning
    assert metric.figures(entry)[metric.key] == share
