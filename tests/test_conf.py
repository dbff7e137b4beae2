"""Every option of every group composes, and the configuration checks it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.config.compose import CONF, compose, compose_gate
from runtime_matrix.experiments.config.targets import load_class
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.experiments.gates.limits import GateConfig, check
from runtime_matrix.runtimes.base import Engine


def options(group: str) -> list[str]:
    found = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    assert found
    return found


@pytest.mark.parametrize("name", [name for name in options("runtime") if name != "custom"])
def test_each_runtime_preset_composes(name: str) -> None:
    config: CellConfig = build(CellConfig, compose([f"runtime={name}", "model=random"]))
    assert issubclass(load_class(config.runtime.engine["target"]), Engine)
    assert config.reference.title == "eager"


def test_presets_of_runtimes_are_told_apart_in_the_matrix() -> None:
    names = [name for name in options("runtime") if name != "custom"]
    titles = [build(CellConfig, compose([f"runtime={name}", "model=random"])).runtime.title for name in names]
    assert sorted(set(titles)) == sorted(titles)


# Presets that experiment=full leaves out on a CPU.
NOT_IN_FULL = {
    "custom": "it names no engine",
    "fake": "its answers are scripted",
    "server": "it needs an address",
    "vllm": "it needs an environment of its own, of 3.5 GB",
    **dict.fromkeys(
        ("llamacpp_kv16", "llamacpp_kv8", "llamacpp_kv4", "llama_server_kv8"),
        "a smaller cache shows at long prompts: experiment=kv_cache has them",
    ),
    "compile_cuda_graph": "needs a GPU: elsewhere it is compile",
    "compile_reduce_overhead": "needs a GPU: elsewhere it is compile",
    "compile_torchao_int4": "needs a GPU: a CPU keeps 4 bits in one byte",
}


def test_the_full_experiment_has_every_preset_but_those_with_a_reason() -> None:
    params = yaml.safe_load((CONF / "experiment" / "full.yaml").read_text())["hydra"]["sweeper"]["params"]
    listed = params["runtime"].strip().split(",")
    assert len(listed) == len(set(listed))
    assert set(listed) == set(options("runtime")) - NOT_IN_FULL.keys()
    assert NOT_IN_FULL.keys() <= set(options("runtime"))


@pytest.mark.parametrize("group", ["runtime/weights", "runtime/placement", "model/architecture"])
def test_each_preset_of_a_part_composes(group: str) -> None:
    for name in options(group):
        words = [f"{group}={name}", "model=random"]
        config: CellConfig = build(CellConfig, compose(words))
        parts = {"runtime/weights": config.runtime.weights, "runtime/placement": config.runtime.placement}
        found = parts.get(group) or {"name": name, **(config.model.architecture or {})}
        assert found["name"] == name
        assert group != "model/architecture" or found["num_hidden_layers"] > 0


@pytest.mark.parametrize("name", options("gate"))
def test_each_gate_composes(name: str) -> None:
    gate: GateConfig = build(GateConfig, compose_gate(name, []), "gate")
    check(gate)
    assert gate.name == name


def test_preset_files_are_short() -> None:
    presets = [path for path in Path(CONF).rglob("*.yaml") if path.parent.name != "claims"]  # those are no presets
    long = [path for path in presets if len(path.read_text().splitlines()) > 20]
    assert sorted(path.name for path in long) == ["config.yaml", "vllm.yaml"]  # which has vLLM's own options


@pytest.mark.parametrize("name", ["multiple_choice", "code", "summarization", "free_form"])
def test_names_of_fields_are_mapped_on_the_command_line(name: str) -> None:
    words = [f"benchmark=[{name}]", f"benchmark.{name}.fields={{prompt: instruction}}", "model=random"]
    config: CellConfig = build(CellConfig, compose(words))
    assert config.benchmark.options[name].fields == {"prompt": "instruction"}
