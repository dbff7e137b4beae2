"""Switches of observing give the same scores on and off; what cannot be measured says why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typing_extensions import override

from runtime_matrix.experiments import run
from runtime_matrix.experiments.detector.techniques import techniques
from runtime_matrix.experiments.evaluation.requests import ObserveRequest
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.records.techniques import is_technique_key, technique_key, technique_label
from runtime_matrix.experiments.validation.ablation import Switch, measure
from runtime_matrix.experiments.validation.detection_switches import ObservingSwitches, Sizes, _lengthened
from runtime_matrix.experiments.validation.tasks.detection_techniques import DETECTION_SWITCHES, TASK
from runtime_matrix.experiments.validation.technique_gains import PUBLISHED
from runtime_matrix.runtimes.base import Outputs
from tests.experiments.evaluation.observed_runtime import FakeObserved, fake_traits, observe_requests
from tests.in_process import call

LONG_TOKENS = 60


class Plain(FakeObserved):
    """Also gives logits alone, for rows without a context."""

    @override
    def forward(self, ids_BT: torch.Tensor, lengths: Any, *rest: Any, **options: Any) -> Outputs:
        contexts = options.pop("contexts", ()) or [range(1)] * len(lengths)
        return super().forward(ids_BT, lengths, *rest, contexts=contexts, **options)


@pytest.fixture
def switches(tmp_path: Path) -> Iterator[dict[str, Switch]]:
    runtime = Plain()
    bench: Any = SimpleNamespace(
        require_steps=lambda: runtime,
        traits=fake_traits(),
        folder=tmp_path,
        runtime_config=SimpleNamespace(engine={"name": "fake"}),
    )
    with ExitStack() as opened:
        made = ObservingSwitches(bench, observe_requests(8), Sizes(6, 2, LONG_TOKENS), opened).all()
        yield {switch.name: switch for switch in made}
    assert not list(tmp_path.iterdir())


def test_each_switch_gives_the_same_on_and_off(switches: dict[str, Switch]) -> None:
    clock = iter(range(10_000))
    supported = [switch for switch in switches.values() if switch.unsupported is None]
    for switch in supported:
        assert measure(switch, 1, {"cpu": lambda: float(next(clock))}).figures()["cpu"] == pytest.approx(1)
    assert len(supported) == len(switches) - 1
    assert set(switches) <= set(DETECTION_SWITCHES)
    assert switches["batched responses, long"].work == f"2 responses of {LONG_TOKENS} tokens"


def test_attention_is_compared_where_the_engine_has_a_choice(switches: dict[str, Switch]) -> None:
    reason = switches["attention by sdpa"].unsupported
    assert reason == "the cell's runtime has no engine.attention=sdpa: use runtime=eager"


def test_a_context_is_filled_up_before_its_own_tokens() -> None:
    request = ObserveRequest((1, 2, 3, 4, 5), range(1, 3), 4)
    filled = _lengthened(request, [request], 8)
    assert filled == ObserveRequest((1, 2, 3, 2, 2, 3, 4, 5), range(1, 6), 7)
    assert _lengthened(request, [request], 4) == request


def test_a_record_gives_the_row_the_factors_of_techniques() -> None:
    label = technique_label("grid search", "auc")
    figures: Any = {
        label: {"ratio": 1.02, "ratio_low": 0.99, "ratio_high": 1.05},
        "published setting, AUC": {"held_out": 0.6},
    }
    figures["scores by Numba"] = {"unsupported": "not installed"}
    entry = Entry(benchmark="detection_techniques", status="ok", figures=figures)
    row = {key: metric.figures(entry)[key] for key in TASK.further_keys(entry) if (metric := TASK.further(key))}
    key = technique_key(label)
    assert key == "technique_grid_search_auc_ratio"
    assert (row[key], row[f"{key}_low"], row[f"{key}_high"]) == (1.02, 0.99, 1.05)
    assert row["ablation_scores_by_numba_cpu_ratio"] is None
    assert not is_technique_key(f"{key}_low")
    assert not any("published" in name for name in row)
    assert TASK.further("technique_none_ratio") is None


@pytest.mark.slow
def test_every_switch_and_technique_of_detection_is_measured(tmp_path: Path) -> None:
    data, options = tmp_path / "responses.jsonl", "benchmark.detection_techniques."
    data.write_text("\n".join(json.dumps(response(number)) for number in range(16)))
    sizes = {"data": data, "pairs": 1, "responses": 4, "long": 1, "long_tokens": 200, "splits": 2}
    words = [f"{options}{name}={value}" for name, value in sizes.items()]
    done = call(run.main, ["experiment=detection_techniques", *words, "progress=false", f"results_dir={tmp_path}"])
    assert done.returncode == 0, done.stderr
    (record,) = tmp_path.glob("*/record.json")
    (entry,) = [one for one in json.loads(record.read_text())["benchmarks"] if one["benchmark"] == TASK.name]
    assert entry["status"] == "ok", entry["reason"]
    labels = {technique_label(one.name, one.figure) for one in techniques(["(0, 0)"], seed=0)}
    published = {technique_label(PUBLISHED, figure) for figure in ("auc", "f1")}
    assert set(entry["figures"]) == {*DETECTION_SWITCHES, *labels, *published}
    table = (record.parent / "detection_techniques.md").read_text()
    assert all(f"| {name} | " in table for name in entry["figures"])
    assert entry["figures"]["cached scores"]["wall"] > 1


def response(number: int) -> dict[str, Any]:
    """Return a response of which every other one is unsupported."""
    labels = [{"start": 0, "end": 4}] if number % 2 else []
    context = f"The house has {number} rooms and a garden."
    return {"id": f"{number}", "context": context, "response": f"It has {number + number % 2} rooms.", "labels": labels}
