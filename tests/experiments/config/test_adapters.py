"""An adapter belongs to one base, changes the identity of the cell, and shares the base with its like."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from runtime_matrix.experiments.cells.cell import Cell, plan
from runtime_matrix.experiments.config.adapters import bundled_adapters
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.execution.worker.loading import adapted_source, make_runtime
from runtime_matrix.experiments.execution.worker.plugin import CellPlugin
from runtime_matrix.experiments.records.journal import read_journal
from runtime_matrix.runtimes.base import Unsupported
from tests.adapter_files import tensors, write
from tests.conftest import ROOT

FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def cell(*words: str) -> Cell:
    return plan(compose([*words, "benchmark=[latency]"]), "")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    base = tmp_path_factory.mktemp("adapters")
    other = {name: value for name, value in tensors(2).items() if "q_proj" in name}
    return [write(base / "one"), write(base / "two", seed=1), write(base / "fewer", values=other)]


def test_each_adapter_is_a_model_of_its_own(folders: list[Path]) -> None:
    base, one, two = cell(), cell(f"adapter={folders[0]}"), cell(f"adapter={folders[1]}")
    assert len({base.facts.digest, one.facts.digest, two.facts.digest}) == 3
    assert len({base.config_hash, one.config_hash, two.config_hash}) == 3
    assert one.source.digest == one.facts.digest  # of artifacts
    assert one.source.base == two.source.base == base.source
    assert (base.model_name, one.model_name) == ("bundled", "bundled+one")
    merged = cell(f"adapter={folders[0]}", "merge_adapter=true")
    assert merged.facts.digest == one.facts.digest
    assert merged.config_hash != one.config_hash
    assert (one.is_reference, merged.is_reference) == (True, False)


def test_one_base_serves_adapters_of_the_same_layers(folders: list[Path]) -> None:
    base, one, two, fewer = cell(), *(cell(f"adapter={folder}") for folder in folders)
    assert one.shares_base_with(two)
    assert not one.shares_base_with(fewer)
    assert not one.shares_base_with(base)
    assert not one.shares_base_with(cell(f"adapter={folders[1]}", "runtime.dtype=bfloat16"))


def test_the_second_cell_loads_no_weights(folders: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="the extra adapters is not installed")
    cells = [cell(f"adapter={folder}", "hw=cpu") for folder in folders[:2]]
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
    first = CellPlugin(cells[0], tmp_path / "1", None)
    runtime = first.bench().engine
    assert first.can_switch()
    second = first.followed_by(cells[1], tmp_path / "2")
    first.close()  # keeps what the second took over
    assert second.bench().engine is runtime
    second.close()
    loads = [next(e for e in read_journal(tmp_path / n / "journal.jsonl") if e["event"] == "load") for n in "12"]
    assert set(loads[0]["phases_s"]) == {"import", "weights", "adapter"}
    assert set(loads[1]["phases_s"]) == {"adapter"}
    assert "the base was loaded by an earlier cell" in loads[1]["notes"][0]
    freed = [[e for e in read_journal(tmp_path / n / "journal.jsonl") if e["event"] == "freed"] for n in "12"]
    assert [len(events) for events in freed] == [0, 1]  # the base is freed once, by the last


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["adapter=erands"], "is neither a folder nor a bundled adapter; did you mean 'errands'?"),
        (["adapter=/nonexistent/adapter"], "is not a folder"),
        (["adapter=experiments/bundled/draft"], "it holds a whole model"),
        (["merge_adapter=true"], "merge_adapter=true would be ignored: add adapter=DIR"),
        (["adapter=errands", "model=local", "model.path=experiments/bundled/draft"], "is one of another base: model."),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as raised:
        cell(*words)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"config": {"base_model_name_or_path": "someone/else-7B"}},
            "one of the base someone/else-7B, the model is bund",
        ),
        ({"values": tensors(layers=5)}, "is one of another base: the model has no model.layers.4"),
        ({"values": tensors() | {FIRST: torch.ones(4, 128)}}, "self_attn.q_proj is 256 × 128 there, 256 × 256 in the"),
    ],
)
def test_an_adapter_of_another_base_is_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    folder = write(tmp_path / "a", **changes)  # type: ignore[arg-type]
    with pytest.raises(UserError) as raised:
        cell(f"adapter={folder}")
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["runtime=gptq", "merge_adapter=true"],
            "an adapter cannot be merged into gptq weights, whose values are packed",
        ),
        (["runtime=nf4", "merge_adapter=true"], "an adapter cannot be merged into nf4 weights"),
        (["runtime=onnxruntime", "merge_adapter=false"], "runs what was exported from the model"),
        (["runtime=vllm", "merge_adapter=true"], "runtime=vllm holds an adapter beside the weights"),
        (["runtime=fake"], "runtime=fake takes no adapter"),
        (["runtime/placement=tensor_parallel"], "runtime/placement=tensor_parallel takes no adapter: use runtime/pl"),
    ],
)
def test_what_an_engine_cannot_do_is_refused_before_loading(folders: list[Path], words: list[str], said: str) -> None:
    planned = cell(f"adapter={folders[0]}", *words)
    with pytest.raises(Unsupported, match=r".") as raised:
        adapted_source(planned, make_runtime(planned.config.runtime), planned.config.runtime)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("words", "is_merged"),
    [([], False), (["merge_adapter=true"], True), (["runtime=onnxruntime"], True), (["runtime=gptq"], False)],
)
def test_how_the_adapter_is_computed(folders: list[Path], words: list[str], is_merged: bool) -> None:
    planned = cell(f"adapter={folders[0]}", *words)
    source = adapted_source(planned, make_runtime(planned.config.runtime), planned.config.runtime)
    assert source.adapter is not None
    assert source.adapter.is_merged is is_merged


def test_the_bundled_adapters_are_of_the_bundled_model() -> None:
    names = bundled_adapters()
    assert names == ["code_steps", "errands", "second_world"]
    for name in names:
        adapter = cell(f"adapter={name}").adapter
        assert adapter is not None
        assert (adapter.rank, adapter.parameters) == (8, 131_072)
        folder = ROOT / "experiments" / "bundled" / "adapters" / name
        assert (folder / "adapter_model.safetensors").stat().st_size < 300_000
