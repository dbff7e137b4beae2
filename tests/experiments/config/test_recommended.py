"""`hw.apply=true`: a profile's settings are applied, the user's own words win, the identity is of the result."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.cells.overrides import cells
from runtime_matrix.experiments.config.arguments import read_arguments
from runtime_matrix.experiments.config.compose import compose, options
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.recommended import set_keys

Run = Callable[..., subprocess.CompletedProcess[str]]
SHAPE = ("model=random", "benchmark=[latency]")
LONG = (*SHAPE, "model.architecture.max_position_embeddings=32768")
CARDS = ["runtime.dtype=float16", "runtime/weights=nf4", "runtime/placement=balanced", "batch_size=1",
         "model.max_tokens=6000", "runtime.placement.max_memory={0: 12, 1: 12}"]  # fmt: skip


def planned(*words: str) -> Cell:
    return plan(compose([*LONG, *words]), "command")


def test_what_a_profile_recommends_is_applied_and_recorded() -> None:
    cell = planned("hw=kaggle_t4x2", "hw.apply=true")
    assert cell.resolved["hw"]["applied"] == CARDS
    runtime = cell.config.runtime
    assert (runtime.dtype, runtime.weights["name"], runtime.placement["name"]) == ("float16", "nf4", "balanced")
    assert runtime.placement["max_memory"] == {"0": 12, "1": 12}
    assert (cell.config.batch_size, cell.facts.max_length, cell.config.hw.apply) == (1, 6000, True)
    assert planned("hw=kaggle_t4x2").config.hw.applied == ()


def test_the_identity_is_that_of_the_resulting_settings() -> None:
    applied = planned("hw=kaggle_t4x2", "hw.apply=true")
    assert applied.config_hash == planned("hw=kaggle_t4x2", *CARDS).config_hash
    assert applied.config_hash != planned("hw=kaggle_t4x2").config_hash


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (("runtime.dtype=float32",), ["runtime/weights=nf4", "batch_size=1", "model.max_tokens=4000"]),
        (("runtime/weights=full",), ["runtime.dtype=float16", "batch_size=1", "model.max_tokens=4000"]),
        (("runtime=gptq",), ["runtime.dtype=float16", "batch_size=1", "model.max_tokens=4000"]),
        (("model.max_tokens=null",), ["runtime.dtype=float16", "runtime/weights=nf4", "batch_size=1"]),
        (("batch_size=4",), ["runtime.dtype=float16", "runtime/weights=nf4", "model.max_tokens=4000"]),
        (("benchmark.latency.batch=[2]",), ["runtime.dtype=float16", "runtime/weights=nf4", "model.max_tokens=4000"]),
    ],
)
def test_the_users_own_words_win(words: tuple[str, ...], left: list[str]) -> None:
    assert list(planned("hw=colab_t4", "hw.apply=true", *words).config.hw.applied) == left


def test_a_placement_of_the_user_keeps_its_memory() -> None:
    cell = planned("hw=kaggle_t4x2", "hw.apply=true", "runtime/placement=balanced", "runtime.placement.devices=2")
    assert cell.config.runtime.placement["max_memory"] is None


def test_what_an_experiment_sets_wins_too() -> None:
    words = compose(["experiment=gpu", "hw=rtx4090", "hw.apply=true"])["hw"]["applied"]
    assert words == ["runtime.engine.attention=flash_attention_2", "model.max_tokens=16000"]
    assert set_keys({"defaults": [{"override /runtime/weights": "full"}, "_self_"], "a": {"b": 1}, "c": 2}) == [
        "runtime/weights", "a.b", "c"
    ]  # fmt: skip


def test_a_limit_above_the_models_own_length_is_left_out() -> None:
    cell = plan(compose([*SHAPE, "hw=colab_t4", "hw.apply=true"]), "command")
    assert not any(word.startswith("model.max_tokens") for word in cell.config.hw.applied)
    assert (cell.config.model.max_tokens, cell.source.max_tokens, cell.facts.is_limited) == (None, None, False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("hw.apply=true",), "hw.apply=true: hw=auto recommends no settings: name a profile that does, .*"),
        (("hw=cpu", "hw.apply=true"), "hw.apply=true: hw=cpu recommends no settings: .*"),
        (("hw=t4", "hw.apply=maybe"), "hw.apply must be of the type bool; found 'maybe'"),
        (("hw=t4", "hw.apply=1"), "hw.apply must be of the type bool; found 1"),
        (("hw=t4", "hw.aply=true"), "hw.aply is not a known key; did you mean 'apply'.*"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        planned(*words)


@pytest.mark.parametrize("name", [name for name in options("hw") if name not in ("auto", "cpu")])
def test_every_profile_can_be_applied(name: str) -> None:
    cell = planned(f"hw={name}", "hw.apply=true")
    assert cell.config.hw.applied
    assert cell.config.runtime.dtype == cell.config.hw.recommended.dtype


def test_both_sides_of_a_comparison_share_what_is_not_the_runtimes() -> None:
    words = [*LONG, "comparison.enabled=false", "runtime=onnxruntime", "hw=a100_40gb", "hw.apply=true"]
    reference, (candidate,) = cells(read_arguments(words), "eager", "")
    assert (candidate.config.runtime.dtype, reference.config.runtime.dtype) == ("bfloat16", "float32")
    assert (candidate.config.batch_size, reference.config.batch_size) == (4, 4)
    assert (candidate.facts.max_length, reference.facts.max_length) == (12000, 12000)


def test_a_sweep_says_in_one_line_what_was_applied(run: Run, tmp_path: Path) -> None:
    done = run("hw=h100", "hw.apply=true", *SHAPE, "comparison.enabled=false", "progress=true")
    assert "hw.apply: runtime.dtype=bfloat16, batch_size=16\n" in done.stdout + done.stderr
    assert done.returncode == 3  # this machine has no such card
    (file,) = (tmp_path / "runs").glob("*/record.json")
    assert '"applied":["runtime.dtype=bfloat16","batch_size=16"]' in file.read_text().replace(" ", "").replace("\n", "")
