"""The benchmark `training_step`: sides in turns, a wrong gradient is an error, and bad input is one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from runtime_matrix.experiments.cells.cell import plan
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.records.schema import Entry
from runtime_matrix.experiments.tasks import training_pairs
from runtime_matrix.experiments.tasks.bench import Bench, OpenEntry, PhasePeak
from runtime_matrix.experiments.tasks.training_step import TASK, TrainingStepConfig
from runtime_matrix.runtimes.base import Unsupported

COST_S = {("step", False): 4.0, ("step", True): 5.0}  # other work takes 1 s
PEAKS = {("step", False): 300, ("step", True): 200, ("forward", False): 150}  # other peaks are 100


class ScriptedTraining:
    """Advances its own clock by the cost of each call."""

    def __init__(self) -> None:
        self.now_s, self.checkpointing = 0.0, False
        self.last, self.calls = "", list[tuple[str, bool]]()
        self.found = {"a": torch.tensor([3.0, 4.0]), "b": torch.zeros(2)}
        self.found_with = dict(self.found)
        self.loss_with = 2.0

    def set_checkpointing(self, enabled: bool) -> None:
        self.checkpointing = enabled

    def drop_gradients(self) -> None:
        pass

    def gradients(self) -> Mapping[str, torch.Tensor]:
        return self.found_with if self.checkpointing else self.found

    def step(self, ids_BT: Any) -> float:
        return self._run("step")

    def forward(self, ids_BT: Any) -> float:
        return self._run("forward")

    def infer(self, ids_BT: Any) -> float:
        return self._run("inference")

    def _run(self, name: str) -> float:
        self.last = name
        self.calls.append((name, self.checkpointing))
        self.now_s += COST_S.get((name, self.checkpointing), 1.0)
        return self.loss_with if self.checkpointing else 2.0


class ScriptedBench:
    """A bench over a scripted training; `unsupported` is why the runtime has none."""

    traits = SimpleNamespace(dtype="float32", vocabulary=64)

    def __init__(self, unsupported: str | None = None):
        self.steps, self.unsupported, self.reports = ScriptedTraining(), unsupported, list[tuple[int, int]]()

    def require_rows(self, rows: int) -> None:
        pass

    def require_steps(self) -> Any:
        return self

    @contextmanager
    def training(self) -> Iterator[ScriptedTraining]:
        if self.unsupported is not None:
            raise Unsupported(self.unsupported)
        yield self.steps

    def random_prompts(self, rows: int, tokens: int) -> list[list[int]]:
        return [[1] * tokens for _ in range(rows)]

    @contextmanager
    def peak_memory(self, phase: str) -> Iterator[PhasePeak]:
        peak = PhasePeak()
        yield peak
        peak.host_bytes = PEAKS.get((self.steps.last, self.steps.checkpointing), 100)

    def report(self, done: int, total: int) -> None:
        self.reports.append((done, total))

    def skip(self, reason: str) -> None:
        pytest.skip(reason)


def run(bench: ScriptedBench, monkeypatch: pytest.MonkeyPatch) -> OpenEntry:
    monkeypatch.setattr(training_pairs, "CLOCKS", dict.fromkeys(("wall", "cpu"), lambda: bench.steps.now_s))
    entry = OpenEntry("training_step", "b2-t8")
    TASK.run(cast(Bench, bench), entry, TrainingStepConfig(batch=2, tokens=(8,), rounds=3), "b2-t8")
    return entry


def test_both_sides_are_measured_in_turns_and_every_metric_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = ScriptedBench()
    entry = run(bench, monkeypatch)
    assert (entry.parameters["batch"], entry.parameters["tokens"]) == (2, 8)
    read: dict[str, float | None] = {}
    for metric in TASK.metrics:
        read |= metric.figures(Entry(status="ok", **vars(entry)))
    assert [key for key, value in read.items() if value is None] == []
    assert read["training_step_s"] == 4
    assert read["training_step_speed_ratio"] == pytest.approx(4 / 5)
    assert read["training_inference_speed_ratio"] == read["training_forward_cpu_speed_ratio"] == 1
    assert (read["training_step_memory_ratio"], read["training_forward_memory_ratio"]) == pytest.approx((1.5, 1.5))
    assert read["training_inference_memory_ratio"] == read["training_loss_ratio"] == 1
    assert read["training_gradient_difference_ratio"] == 0
    assert entry.figures["gradient_norm"] == 5
    timed = [side for name, side in bench.steps.calls if name == "forward"][6:]  # after those for memory
    assert timed == [True, False, False, True, True, False]
    assert bench.reports[-1] == (18, 18)


def test_a_gradient_or_loss_that_checkpointing_changes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = ScriptedBench()
    bench.steps.found_with = {"a": torch.tensor([3.0, 4.01]), "b": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"changes the gradient of a by 2\.0e-03 of its norm"):
        run(bench, monkeypatch)
    bench.steps.found_with = {"a": bench.steps.found["a"], "b": torch.full((2,), 1e-9)}
    with pytest.raises(FloatingPointError, match="not finite"):  # of a gradient that is zero without it
        run(bench, monkeypatch)
    bench.steps.found_with = {"a": bench.steps.found["a"]}
    with pytest.raises(ValueError, match="not the same"):
        run(bench, monkeypatch)
    bench.steps.found_with, bench.steps.loss_with = bench.steps.found, 2.01
    with pytest.raises(ValueError, match=r"changes the loss of the step from 2 to 2\.01"):
        run(bench, monkeypatch)
    bench.steps.loss_with = float("nan")
    with pytest.raises(FloatingPointError):
        run(bench, monkeypatch)


def test_a_runtime_without_gradients_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.skip.Exception, match="packed weights have no gradients"):
        run(ScriptedBench("packed weights have no gradients"), monkeypatch)


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("batch=0", "training_step.batch must be at least 1"),
        ("tokens=[1]", "training_step.tokens"),
        ("rounds=1", "training_step.rounds"),
        ("tokens=[64,4096]", "rows of 4096 tokens exceed the model's context of"),
    ],
)
def test_bad_input_is_refused_in_one_line(word: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as error:
        plan(compose(["benchmark=[training_step]", f"benchmark.training_step.{word}"]), "run")
    assert "\n" not in str(error.value)


def test_each_number_of_tokens_is_a_grid_point() -> None:
    assert TASK.grid(TrainingStepConfig(batch=2, tokens=(64, 8, 64), rounds=2)) == ["b2-t64", "b2-t8"]
