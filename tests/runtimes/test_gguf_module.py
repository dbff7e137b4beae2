"""A GGUF file as a dense module: equal to the folder that it was written from, and refused where it would not be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runtime_matrix.experiments.cells.data import BUNDLED
from runtime_matrix.runtimes.base import Hardware, LoadRequest, ModelSource, Unsupported
from runtime_matrix.runtimes.weights.full import load_module, modules_of, notes
from tests.gguf_files import write_gguf

pytest.importorskip("gguf", reason="the extra llamacpp is not installed")
pytest.importorskip("accelerate", reason="the extra offload is not installed")

IDS_BT = torch.tensor([[3, 14, 15, 92, 65, 35, 89, 79, 32, 38, 46, 26]])


def source(path: Path) -> ModelSource:
    return ModelSource("digest", path)


def logits(path: Path) -> torch.Tensor:
    module = load_module(LoadRequest(source(path), "float32", "sdpa", Hardware("cpu", 1)))
    with torch.no_grad():
        found: torch.Tensor = module(IDS_BT).logits
    return found


def changed_tiny(tiny_model: Path, tmp_path: Path, change: Any) -> Path:
    """Return the GGUF file of the tiny model with another state."""
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return write_gguf(folder, tmp_path / "tiny.gguf")


def test_a_file_in_float32_computes_what_its_folder_does(tmp_path: Path, tiny_model: Path) -> None:
    for name, folder in (("bundled", BUNDLED / "model"), ("tiny", tiny_model)):
        file = write_gguf(folder, tmp_path / f"{name}.gguf")
        assert torch.allclose(logits(file), logits(folder), rtol=0, atol=1e-4)
        assert notes(source(file), "float32") == ()


def test_a_real_model_with_shared_embeddings_computes_what_its_folder_does(tmp_path: Path, data_folder: Path) -> None:
    folder = data_folder / "stories260K"
    assert torch.allclose(logits(write_gguf(folder, tmp_path / "s.gguf")), logits(folder), rtol=0, atol=1e-4)


def test_quantized_weights_are_dequantized_as_the_package_gguf_does(tmp_path: Path) -> None:
    import gguf

    file = write_gguf(BUNDLED / "model", tmp_path / "bundled.gguf", "Q8_0")
    module = load_module(LoadRequest(source(file), "float32", "sdpa", Hardware("cpu", 1)))
    tensor = next(tensor for tensor in gguf.GGUFReader(file).tensors if tensor.name == "blk.1.ffn_down.weight")
    values = gguf.dequantize(tensor.data, tensor.tensor_type)
    assert np.array_equal(module.model.layers[1].mlp.down_proj.weight.numpy(), values)
    assert notes(source(file), "float32") == ("the weights were dequantized from GGUF Q8_0 to float32",)
    assert modules_of(source(file))[1] == "transformers.models.llama.modeling_llama"


def test_other_files_beside_it_and_in_the_working_directory_are_not_read(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    file = write_gguf(tiny_model, tmp_path / "tiny.gguf")
    write_gguf(BUNDLED / "model", tmp_path / "here" / "tiny.gguf")
    for folder in (tmp_path, tmp_path / "here"):
        (folder / "config.json").write_text("{")
        (folder / "adapter_config.json").write_text("{")
    monkeypatch.chdir(tmp_path / "here")
    assert torch.allclose(logits(file), logits(tiny_model), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"llama__rope__scaling__type": "linear"}, "it does not read rotary embeddings with the scaling linear"),
        ({"llama__attention__sliding_window": 4}, "it does not read its sliding window of 4 tokens"),
        ({"general__architecture": "unheard-of"}, "GGUF model with architecture unheard-of is not supported yet"),
    ],
)
def test_what_transformers_would_compute_otherwise_is_unsupported(
    changes: dict[str, Any], message: str, tmp_path: Path, tiny_model: Path
) -> None:
    file = write_gguf(tiny_model, tmp_path / "tiny.gguf", **changes)
    with pytest.raises(Unsupported, match=message) as caught:
        logits(file)
    assert "model.reference=DIR" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_factors_of_rotary_embeddings_are_unsupported(tmp_path: Path, tiny_model: Path) -> None:
    file = write_gguf(tiny_model, tmp_path / "tiny.gguf", extra={"rope_freqs.weight": np.ones(4, np.float32)})
    with pytest.raises(Unsupported, match=r"does not read rope_freqs\.weight"):
        logits(file)


def test_weights_without_a_place_are_unsupported(tmp_path: Path, tiny_model: Path) -> None:
    file = write_gguf(tiny_model, tmp_path / "tiny.gguf", extra={"blk.0.ffn_norm_2.weight": np.ones(32, np.float32)})
    with pytest.raises(Unsupported, match="it reads 26,784 of 26,816 weights"):
        logits(file)


def test_missing_weights_are_an_error(tmp_path: Path, tiny_model: Path) -> None:
    file = changed_tiny(tiny_model, tmp_path, lambda state: state.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(ValueError, match=r"tiny.gguf lacks model.layers.1.mlp.up_proj.weight"):
        logits(file)


def test_weights_that_are_not_finite_are_an_error(tmp_path: Path, tiny_model: Path) -> None:
    def spoil(state: dict[str, torch.Tensor]) -> None:
        state["model.norm.weight"][3] = torch.inf

    with pytest.raises(ValueError, match=r"tiny.gguf: model.norm.weight is not finite in torch.float32"):
        logits(changed_tiny(tiny_model, tmp_path, spoil))
