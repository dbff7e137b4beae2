"""Layers over several devices: the plan needs no device, and is run on a stand-in for two GPUs and on the host."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime_matrix.experiments.cells.checks import check_configuration
from runtime_matrix.experiments.cells.config import CellConfig
from runtime_matrix.experiments.config.compose import compose
from runtime_matrix.experiments.config.errors import UserError
from runtime_matrix.experiments.config.validate import build
from runtime_matrix.runtimes.base import Hardware, LoadRequest, ModelSource, Unsupported, Weights
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.placements.balanced import Balanced
from runtime_matrix.runtimes.placements.layer_plan import LayerPlan, layer_plan
from runtime_matrix.runtimes.weights import full
from runtime_matrix.runtimes.weights.bitsandbytes import BitsAndBytes
from runtime_matrix.runtimes.weights.gptq import Gptq
from runtime_matrix.runtimes.weights.torchao import TorchAo
from tests.conftest import ROOT
from tests.runtimes.stand_in_card import card

pytest.importorskip("accelerate", reason="accelerate is not installed: pip install 'runtime-matrix[offload]'")

SHAPE = {
    "model_type": "llama",
    "vocab_size": 128,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SMALL = ModelSource("small", None, SHAPE | {"num_hidden_layers": 4})
DEEP = ModelSource("deep", None, SHAPE | {"num_hidden_layers": 32})
GIB = 2**30
TWO = {"cuda:0": 12 * GIB, "cuda:1": 12 * GIB}
IDS_BT = torch.arange(3, 19).view(2, 8)


def has_bitsandbytes() -> bool:
    try:
        BitsAndBytes("nf4").check(Hardware("cpu", 1))
    except Unsupported:
        return False
    return True


needs_bitsandbytes = pytest.mark.skipif(not has_bitsandbytes(), reason="needs runtime-matrix[quant]")


def planned(memory: dict[str, int], model: ModelSource = DEEP, **options: Any) -> LayerPlan:
    return layer_plan(full.outline(model, "float16"), memory, **options)


def logits(runtime: Eager, hw: Hardware, model: ModelSource = SMALL) -> torch.Tensor:
    """Return the logits of a prefill of rows of different lengths, and of a step after it, on the host."""
    runtime.check(hw)
    runtime.load(model, hw, lambda phase: nullcontext())
    cache = runtime.new_cache(2, 16)
    steps = [runtime.forward(IDS_BT, [8, 6], cache), runtime.forward(IDS_BT[:, :1], [1, 1], cache)]
    runtime.close()
    return torch.cat([step.logits_BKV.cpu() for step in steps], dim=1)


def test_layers_are_divided_evenly_and_the_last_ones_are_on_the_host() -> None:
    plan = planned(TWO, host_layers=4)
    devices = [plan.device_map[f"model.layers.{layer}"] for layer in range(32)]
    assert devices == ["cuda:0"] * 14 + ["cuda:1"] * 14 + ["cpu"] * 4
    assert plan.layer_devices == ("cuda:0",) * 14 + ("cuda:1",) * 14 + ("cuda:0",) * 4
    assert plan.dense_parts == tuple(f"model.layers.{layer}" for layer in range(28, 32))
    assert [note.partition(" MiB")[2] for note in plan.notes] == [
        " of weights: layers 0 to 13, embed_tokens",
        " of weights: layers 14 to 27, norm, rotary_emb, lm_head",
        " of weights: layers 28 to 31, copied to cuda:0 in each forward pass",
    ]


def test_the_devices_hold_each_weight_once() -> None:
    whole = full.load_module(LoadRequest(SMALL, "float16", "sdpa", Hardware("cpu", 1)))
    plan = planned(TWO, SMALL, host_layers=1)
    assert set(plan.bytes) == {"cuda:0", "cuda:1", "cpu"}
    assert sum(plan.bytes.values()) == pytest.approx(full.weight_bytes(whole), rel=1e-3)  # a buffer is counted twice


def test_what_does_not_fit_goes_where_max_memory_says() -> None:
    layer = planned(TWO).bytes["cuda:0"] // 16
    plan = planned({"cuda:0": 6 * layer, "cuda:1": 6 * layer, "cpu": GIB})
    assert plan.device_map["model.layers.0"] == "cuda:0"
    assert plan.device_map["model.layers.31"] == "cpu"
    assert plan.bytes["cuda:0"] <= 6 * layer


@needs_bitsandbytes
@pytest.mark.parametrize(("scheme", "scales"), [("nf4", 0), ("int8", 4)])  # per output; bitsandbytes hides int8's
def test_an_outline_has_the_bytes_of_packed_weights(scheme: str, scales: int) -> None:
    weights = BitsAndBytes(scheme)
    plan = planned(TWO, SMALL, host_layers=1, pack=weights.outline)
    module = weights.load(LoadRequest(SMALL, "float16", "sdpa", Hardware("cpu", 1), (), plan.dense_parts))
    packed = full.weight_bytes(module.to("cpu"))  # which packs
    layers = [layer.named_modules() for layer in module.model.layers[:3]]
    outputs = sum(part.out_features for parts in layers for _, part in parts if hasattr(part, "out_features"))
    # `weight_bytes` counts bitsandbytes' table of values for each layer, and not the scales of scales.
    assert sum(plan.bytes.values()) == pytest.approx(packed + scales * outputs, rel=5e-3)
    assert plan.bytes["cpu"] == full.weight_bytes(module.model.layers[3])


@needs_bitsandbytes
def test_the_documented_plan_is_that_of_its_command() -> None:
    page = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8")
    config: CellConfig = build(CellConfig, compose(["model=random", "model/architecture=llama_2_7b"]))
    model = ModelSource("documented", None, config.model.architecture)
    plan = planned(TWO, model, host_layers=4, pack=BitsAndBytes("nf4").outline)
    assert "\n".join(plan.notes) in page


@pytest.mark.parametrize(
    ("memory", "options", "says"),
    [
        ({"cuda:0": 2**20, "cuda:1": 2**20}, {}, r"^the model does not fit: it has .* GiB.*cuda:0 0\.000977 GiB"),
        ({"cuda:0": 2**20, "cuda:1": 2**20, "disk": 2**20}, {}, "^the model does not fit"),
        ({"cuda:0": 1, "cuda:1": GIB}, {}, "^not one layer fits on cuda:0"),
        (TWO, {"host_layers": 32}, r"runtime\.placement\.host_layers=32: the model has 32 layers"),
    ],
)
def test_what_cannot_be_placed(memory: dict[str, int], options: dict[str, Any], says: str) -> None:
    with pytest.raises(Unsupported, match=says) as raised:
        planned(memory, **options)
    assert "\n" not in str(raised.value)


@needs_bitsandbytes
def test_packed_weights_are_not_stored_elsewhere() -> None:
    with pytest.raises(Unsupported, match=r"packed weights cannot be stored elsewhere.*host_layers=N"):
        planned({"cuda:0": 2**20, "cuda:1": 2**20, "cpu": GIB}, pack=BitsAndBytes("nf4").outline)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("runtime.placement.max_memory={0:12GB}", "gives 0 12GB: give a number of GiB"),
        ("runtime.placement.max_memory={gpu:12}", "names gpu: give numbers of GPUs, cpu or disk"),
        ("runtime.placement.host_layers=-1", "host_layers=-1: give a number of layers"),
        ("runtime.placement.to=tape", "to=tape is unknown; known: host, disk"),
        ("runtime.placement.devices=3 runtime.placement.max_memory={0:12,1:12}", "devices=3 contradicts .*0, 1"),
    ],
)
def test_options_are_checked_when_a_cell_is_planned(options: str, says: str) -> None:
    words = ["runtime/placement=balanced", "model=random", *options.split()]
    with pytest.raises(UserError, match=says):
        check_configuration(build(CellConfig, compose(words)))


def test_recommended_settings_of_two_cards_are_expressible() -> None:
    words = ["hw=kaggle_t4x2", "runtime=nf4", "runtime/placement=balanced", "model=random"]
    config: CellConfig = build(CellConfig, compose([*words, "runtime.placement.max_memory={0:12,1:12,cpu:30}"]))
    check_configuration(config)
    assert config.runtime.placement["max_memory"] == {"0": 12, "1": 12, "cpu": 30}  # records have JSON's keys
    advice = config.hw.recommended.advice
    assert "runtime/weights=nf4" in advice
    assert "runtime/placement=balanced" in advice
    assert "shards=2 hw.devices=2" in advice


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "needs several devices, and this machine computes on the CPU"),
        ({"devices": 2}, r"names 2 GPU\(s\), and this machine computes on the CPU"),
        ({"max_memory": {"cpu": 1}}, "needs several devices"),
        ({"host_layers": 1}, "the model is in host memory already"),
    ],
)
def test_what_a_cpu_cannot_do_is_refused_before_loading(options: dict[str, Any], says: str) -> None:
    with pytest.raises(Unsupported, match=says):
        Eager(placement=Balanced(**options)).check(Hardware("cpu", 1))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"devices": 3}, "needs GPU 2, and this machine has 2"),
        ({"max_memory": {1: 12}}, "starts with GPU 1, and hw=… chose GPU 0"),
    ],
)
def test_gpus_that_are_missing(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], says: str) -> None:
    with card(monkeypatch, 2), pytest.raises(Unsupported, match=says):
        Balanced(**options).check(Hardware("cuda", 1))


@pytest.mark.parametrize("weights", [lambda: Gptq(method="awq"), lambda: TorchAo("int8")])
def test_weights_that_are_prepared_for_one_device_are_refused(weights: Callable[[], Weights]) -> None:
    made = weights()
    try:
        made.check(Hardware("cpu", 1))
    except Unsupported as error:
        pytest.skip(str(error))
    with pytest.raises(Unsupported, match=r"prepared for one device.*use runtime/weights=full, nf4 or bnb_int8"):
        Eager(weights=made, placement=Balanced(host_layers=1, to="disk")).check(Hardware("cpu", 1))


def test_stored_weights_that_are_packed_are_refused_before_loading(tmp_path: Path) -> None:
    stored = ModelSource("stored", tmp_path / "missing", stored_method="gptq")
    runtime = Eager(placement=Balanced(host_layers=1, to="disk"))
    with pytest.raises(Unsupported, match="the stored weights are gptq"):
        runtime.load(stored, Hardware("cpu", 1, tmp_path), lambda phase: nullcontext())


@pytest.mark.parametrize("options", [{"host_layers": 2}, {"max_memory": {"cpu": 0.0023, "disk": 1}}])
def test_a_cpu_computes_layers_that_are_on_disk(options: dict[str, Any], tmp_path: Path) -> None:
    hw = Hardware("cpu", 1, tmp_path)
    runtime = Eager(placement=Balanced(to="disk", **options))
    traits = runtime.load(SMALL, hw, lambda phase: nullcontext())
    assert any(note.startswith("disk holds") for note in traits.notes)
    runtime.close()
    torch.testing.assert_close(logits(runtime, hw), logits(Eager(), hw), atol=0, rtol=0)


@needs_bitsandbytes
@pytest.mark.parametrize("scheme", ["nf4", "int8"])
def test_packed_layers_are_followed_by_dense_ones_on_disk(scheme: str, tmp_path: Path) -> None:
    """The expected logits are those of the same layers, all in memory."""
    hw, weights = Hardware("cpu", 1, tmp_path), BitsAndBytes(scheme)

    class Mixed(BitsAndBytes):
        def load(self, request: LoadRequest) -> Any:  # type: ignore[explicit-override]
            parts = ("model.layers.3",)
            return super().load(LoadRequest(SMALL, "float32", "sdpa", hw, (), parts)).to("cpu")

    placed = logits(Eager(weights=weights, placement=Balanced(host_layers=1, to="disk")), hw)
    torch.testing.assert_close(placed, logits(Eager(weights=Mixed(scheme)), hw), atol=0, rtol=0)
    assert not torch.equal(placed, logits(Eager(weights=weights), hw))


@pytest.mark.parametrize(
    ("options", "held"),
    [
        ({}, ["cuda:0", "cuda:1"]),
        ({"max_memory": {0: 1, 1: 1}, "host_layers": 1}, ["cuda:0", "cuda:1", "host memory"]),
        ({"host_layers": 1, "to": "disk"}, ["cuda:0", "cuda:1", "disk"]),
    ],
)
def test_two_gpus_compute_what_one_device_computes(
    options: dict[str, Any], held: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = logits(Eager(), Hardware("cpu", 1, tmp_path))
    with card(monkeypatch, 2):
        hw, runtime = Hardware("cuda", 1, tmp_path), Eager(placement=Balanced(**options))
        traits = runtime.load(SMALL, hw, lambda phase: nullcontext())
        assert [note.partition(" holds")[0] for note in traits.notes] == held
        torch.testing.assert_close(logits(runtime, hw), expected, atol=1e-5, rtol=0)
