from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from typing_extensions import override

from runtime_matrix.runtimes.artifacts import entries
from runtime_matrix.runtimes.base import Hardware, LoadRequest, ModelSource, Unsupported
from runtime_matrix.runtimes.engines.eager import Eager
from runtime_matrix.runtimes.placements.offload import Offload
from runtime_matrix.runtimes.weights.full import Full, weight_bytes

pytest.importorskip("accelerate", reason="accelerate is not installed: pip install 'runtime-matrix[offload]'")


def test_layers_on_disk_are_not_in_memory(tiny_model: Path, tmp_path: Path) -> None:
    hardware = Hardware("cpu", 1, tmp_path)
    module = Full().load(LoadRequest(ModelSource("tiny", tiny_model), "float32", "sdpa", hardware))
    whole = weight_bytes(module)
    assert weight_bytes(Offload(layers=1).place(module, hardware)) < whole


def test_a_second_model_does_not_get_the_weights_of_the_first(tiny_model: Path, tmp_path: Path) -> None:
    hardware = Hardware("cpu", 1, tmp_path)
    ids_BT = torch.arange(3, 11)[None]
    for factor in (1.0, 2.0, 1.0):
        module = Full().load(LoadRequest(ModelSource("tiny", tiny_model), "float32", "sdpa", hardware))
        with torch.no_grad():
            module.model.layers[1].mlp.down_proj.weight *= factor
            expected = module(ids_BT).logits
            found = Offload(layers=1).place(module, hardware)(ids_BT).logits
        torch.testing.assert_close(found, expected, atol=0, rtol=0)
    assert len(entries(tmp_path)) == 2  # the third model's weights are the first's


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_memory": {"cpu": "1KB"}}, "not one layer fits into runtime.placement.max_memory"),
        ({"layers": 9}, "runtime.placement.layers=9: the model has 2 layers"),
        ({"layers": 1, "to": "host"}, "the model is in host memory already"),
    ],
)
def test_what_no_placement_satisfies(tiny_model: Path, tmp_path: Path, options: dict[str, object], says: str) -> None:
    hardware = Hardware("cpu", 1, tmp_path)
    module = Full().load(LoadRequest(ModelSource("tiny", tiny_model), "float32", "sdpa", hardware))
    with pytest.raises(Unsupported, match=says):
        Offload(**options).place(module, hardware)  # type: ignore[arg-type]


def test_what_is_placed_is_loaded_on_the_host(tmp_path: Path) -> None:
    """A model that is offloaded may be larger than the card: it must not lie there first."""
    asked: list[str] = []

    class Asked(Full):
        @override
        def load(self, request: LoadRequest) -> None:
            asked.append(request.hw.device)
            raise EOFError

    for placement in (Offload(layers=1), None):
        runtime = Eager(weights=Asked(), placement=placement)
        with pytest.raises(EOFError):
            runtime.load(
                ModelSource("m", None, {"model_type": "llama"}), Hardware("cuda", 1, tmp_path), lambda _: nullcontext()
            )
    assert asked == ["cpu", "cuda"]
